"""Each block of CMPC equals a NumPy implementation, for a batch with several sentence lengths."""

from functools import partial

import jax
import numpy as np
import pytest

from lts_jax.models.cmpc.comprehension import Level, RelationReasoning, Sentence, WordTypes
from lts_jax.models.cmpc.exchange import ConvLSTM, Exchange
from lts_jax.models.cmpc.layers import LinearOfParts, spatial_coordinates, unit
from tests.lts_jax.helpers import numpy_cmpc as reference
from tests.lts_jax.helpers.oracles import randomize, relative_error

RNG = np.random.default_rng(0)
LENGTHS = (5, 1, 3, 4)
H, W, D, C, Q = 3, 4, 7, 6, 5


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def make_sentence():
    """Returns unit vectors and soft types; values at padding must have no influence."""
    valid = np.arange(5) < np.array(LENGTHS)[:, None]
    words = np.asarray(unit(draw(4, 5, D))) * valid[..., None]
    types = np.array(jax.nn.softmax(draw(4, 5, 4)))
    return Sentence(words, valid, types)


SENTENCE = make_sentence()
TAP = draw(2, H, W, 9)  # two images with two sentences each
LEVELS = [draw(4, H, W, Q) for _ in range(3)]


def of_row(b):
    n = LENGTHS[b]
    words, types = SENTENCE.words[b, :n], SENTENCE.types[b, :n]
    return words.astype(np.float64), types.astype(np.float64)


def apply(module, *args):
    """Runs a block with random parameters; returns its output, and the parameters for NumPy."""
    variables = randomize(jax.eval_shape(module.init, jax.random.key(0), *args))
    return jax.jit(module.apply)(variables, *args), reference.double(variables["params"])


def test_coordinates():
    ours = spatial_coordinates(H, W)
    np.testing.assert_allclose(ours, reference.coordinates(H, W), atol=1e-6)


def test_word_types():
    ours, params = apply(WordTypes(8), SENTENCE.words)
    for b in range(4):
        theirs = reference.word_types(of_row(b)[0], params)
        assert relative_error(ours[b, : LENGTHS[b]], theirs) < 1e-5


@pytest.mark.parametrize(("method", "kinds"), [("entities", 2), ("necessary", 3)])
def test_a_sentence_is_the_sum_of_some_of_its_words(method, kinds):
    ours = getattr(SENTENCE, method)()
    for b in range(4):
        assert relative_error(ours[b], reference.pooled(*of_row(b), kinds)) < 1e-5


def test_relation_reasoning_is_a_graph_convolution():
    nodes = np.asarray(unit(draw(4, H * W, C)))
    ours, params = apply(RelationReasoning(), nodes, SENTENCE)
    for b in range(4):
        theirs = reference.reason(nodes[b].astype(np.float64), *of_row(b), params)
        assert relative_error(ours[b], theirs) < 1e-5


def test_a_level_perceives_reasons_and_fuses():
    module = Level(C, Q, heads=3)

    def run(module, tap, sentence):
        image = module.of_image(tap)
        entities = sentence.entities()
        return module.perceive(image, entities), module(image, sentence, entities)

    variables = randomize(
        jax.eval_shape(partial(module.init, method=run), jax.random.key(0), TAP, SENTENCE)
    )
    params = reference.double(variables["params"])
    nodes, fused = jax.jit(partial(module.apply, method=run))(variables, TAP, SENTENCE)
    assert fused.shape == (4, H, W, Q)
    for b in range(4):
        words, types = of_row(b)
        tap = TAP[b // 2].astype(np.float64)
        entities = reference.pooled(words, types, 2)
        assert relative_error(nodes[b], reference.perceive(tap, entities, params)) < 1e-5
        assert relative_error(fused[b], reference.level(tap, words, types, params)) < 1e-5


def test_linear_of_parts_equals_linear_of_their_concatenation():
    parts = [draw(2, 3, 4), draw(2, 1, 2), draw(1, 3, 5)]
    ours, params = apply(LinearOfParts(6), parts)
    concatenated = np.concatenate([np.broadcast_to(x, (2, 3, x.shape[-1])) for x in parts], axis=-1)
    assert relative_error(ours, reference.linear(concatenated, params)) < 1e-5


def test_exchange():
    sentence = np.asarray(unit(draw(4, D)))
    ours, params = apply(Exchange(), LEVELS, sentence)
    for b in range(4):
        of_levels = [x[b].astype(np.float64) for x in LEVELS]
        theirs = reference.exchange(of_levels, sentence[b].astype(np.float64), params)
        for one, two in zip(ours, theirs, strict=True):
            assert relative_error(one[b], two) < 1e-5


def test_conv_lstm():
    ours, params = apply(ConvLSTM(4), LEVELS)
    for b in range(4):
        theirs = reference.conv_lstm([x[b].astype(np.float64) for x in LEVELS], params)
        assert relative_error(ours[b], theirs) < 1e-4


def test_a_vector_of_zeros_has_a_gradient():
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(np.zeros(3, np.float32))).all()
