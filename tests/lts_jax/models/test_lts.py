import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.models import LTS
from lts_jax.models.segmenter import Segmenter
from tests.lts_jax.helpers.drawn import draw_variables
from tests.lts_jax.helpers.tiny import TINY

IMAGE = np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)
TOKENS = np.array([[2, 3, 4, 0], [5, 6, 0, 0]], np.int32)
LENGTHS = np.array([3, 2], np.int32)


@pytest.fixture(scope="module")
def variables():
    model = LTS(vocab_size=9, **TINY)
    return draw_variables(
        jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGE, TOKENS, LENGTHS, train=False))
    )


@pytest.mark.slow
def test_one_image_encoding_serves_many_sentences(variables):
    model = LTS(vocab_size=9, **TINY)
    expected = model.apply(variables, IMAGE[[0, 0]], TOKENS, LENGTHS, train=False)
    image = model.apply(variables, IMAGE[:1], train=False, method="encode_image")
    text = model.apply(variables, TOKENS, LENGTHS, method="encode_text")
    image = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), image)
    parts = model.apply(variables, image, text, train=False, method="refer")
    np.testing.assert_allclose(parts.mask, expected.mask, atol=1e-5)
    np.testing.assert_allclose(parts.heatmap, expected.heatmap, atol=1e-5)
    assert np.abs(expected.mask[0] - expected.mask[1]).max() > 1e-3  # the sentence matters


@pytest.mark.slow
def test_bfloat16_computes_in_it_and_returns_float32(variables):
    exact = LTS(vocab_size=9, **TINY).apply(variables, IMAGE, TOKENS, LENGTHS, train=False)
    model = LTS(vocab_size=9, **TINY, dtype=jnp.bfloat16)
    rough = model.apply(variables, IMAGE, TOKENS, LENGTHS, train=False)
    assert rough.mask.dtype == rough.heatmap.dtype == jnp.float32
    error = np.linalg.norm(rough.mask - exact.mask) / np.linalg.norm(exact.mask)
    assert 1e-5 < error < 5e-2
    fresh = jax.eval_shape(
        lambda: model.init(jax.random.key(0), IMAGE, TOKENS, LENGTHS, train=False)
    )
    assert {x.dtype for x in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["probability", "logits"])
def test_prior_reaches_the_segmenter(variables, prior):
    model = LTS(vocab_size=9, **TINY, prior=prior)
    outputs, seen = model.apply(
        variables,
        IMAGE,
        TOKENS,
        LENGTHS,
        train=False,
        capture_intermediates=lambda module, _: module.name == "locator",
        mutable=["intermediates"],
    )
    assert outputs.heatmap.shape == (2, 1, 8, 8)
    assert outputs.mask.shape == (2, 16, 16)
    np.testing.assert_allclose(
        seen["intermediates"]["locator"]["__call__"][0], outputs.heatmap, atol=1e-6
    )
    base = LTS(vocab_size=9, **TINY).apply(variables, IMAGE, TOKENS, LENGTHS, train=False)
    assert (np.abs(base.mask - outputs.mask).max() > 1e-4) == (prior == "logits")


def test_unknown_prior_is_refused():
    with pytest.raises(ValueError, match=r"model\.prior"):
        LTS(vocab_size=9, **TINY, prior="sigmoid").init(
            jax.random.key(0), IMAGE, TOKENS, LENGTHS, train=False
        )


def test_unknown_locator_is_refused():
    with pytest.raises(ValueError, match=r"model\.locate"):
        LTS(vocab_size=9, **TINY, locate="filters").init(
            jax.random.key(0), IMAGE, TOKENS, LENGTHS, train=False
        )


def test_a_network_that_would_ignore_the_sentence_is_refused():
    with pytest.raises(ValueError, match="would ignore the sentence"):
        LTS(vocab_size=9, **TINY, locate="none", fuse=False).init(
            jax.random.key(0), IMAGE, TOKENS, LENGTHS, train=False
        )


def test_segmenter_works_on_any_features():
    """The segmenter works standalone on another network's features and prior (Table 3)."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 10, 7, 23)).astype(np.float32)
    prior = rng.uniform(size=(2, 10, 7)).astype(np.float32)
    mask, _ = jax.eval_shape(
        lambda: Segmenter().init_with_output(jax.random.key(0), features, prior, train=False)
    )
    assert mask.shape == (2, 20, 14)
