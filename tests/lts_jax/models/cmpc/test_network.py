"""The complete CMPC network: composition, parameters, loss and interface."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clu import parameter_overview

from lts_jax.models import CMPC, Outputs
from lts_jax.models.losses import segmentation_loss
from tests.lts_jax.helpers import numpy_cmpc as reference
from tests.lts_jax.helpers.oracles import randomize, relative_error

TINY = {
    "vocab_size": 9,
    "embed_dim": 4,
    "gru_features": 7,
    "backbone_width": 4,
    "backbone_stages": (0, 1, 0, 0),
    "level_features": 6,
    "fused_features": 5,
    "exchange_rounds": 2,
    "segmenter_features": 4,
    "segmenter_rates": (1, 2),
}
PLAIN, WITH_SEGMENTER = CMPC(**TINY), CMPC(**TINY, segment=True)
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(2, 32, 64, 3)).astype(np.float32)  # two sentences each
TOKENS = RNG.integers(2, 9, (4, 5))
LENGTHS = np.array([5, 1, 3, 4])


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(
        lambda: WITH_SEGMENTER.init(jax.random.key(0), IMAGES, TOKENS, LENGTHS, train=False)
    )
    drawn = randomize(shapes)
    return drawn | {"batch_stats": jax.tree.map(np.abs, drawn["batch_stats"])}


def without(variables, *parts):
    return {
        kind: {name: value for name, value in tree.items() if name not in parts}
        for kind, tree in variables.items()
    }


@pytest.fixture(scope="module")
def outputs(variables):
    run = jax.jit(lambda v: WITH_SEGMENTER.apply(v, IMAGES, TOKENS, LENGTHS, train=False))
    return run(variables)


def test_the_parts_are_composed_in_order(variables, outputs):
    taps, text = jax.jit(
        lambda v: PLAIN.apply(
            v,
            method=lambda m: (m.encode_image(IMAGES, train=False), m.encode_text(TOKENS, LENGTHS)),
        )
    )(variables)
    params = reference.double(variables["params"])
    fusion, locator = params["fusion"], params["locator"]
    for b in range(4):
        words = np.asarray(text.words)[b, : LENGTHS[b]].astype(np.float64)
        np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, atol=1e-6)
        types = reference.word_types(words, fusion["types"])
        levels = [
            reference.level(np.asarray(tap)[b // 2].astype(np.float64), words, types, fusion[name])
            for tap, name in zip(taps[:3], ("level3", "level4", "level5"), strict=True)
        ]
        for i, x in enumerate(levels):
            score = reference.conv3x3(x, fusion[f"score{i + 3}"])
            assert relative_error(outputs.auxiliary[b, i], score) < 1e-4
        for i in range(2):
            sentence = reference.pooled(words, types, 3)
            levels = reference.exchange(levels, sentence, locator[f"round{i}"])
        fused = reference.conv_lstm(levels, locator["lstm"])
        score = reference.conv3x3(fused, locator["score"])
        assert relative_error(outputs.heatmap[b, 0], score) < 1e-4


@pytest.mark.slow
def test_the_response_map_is_the_mask_without_a_segmenter(variables, outputs):
    plain = jax.jit(lambda v: PLAIN.apply(v, IMAGES, TOKENS, LENGTHS, train=False))(
        without(variables, "segmenter")
    )
    np.testing.assert_allclose(plain.mask, outputs.heatmap[:, 0], atol=1e-5)
    assert plain.mask.shape == (4, 4, 8) and outputs.mask.shape == (4, 8, 16)


def test_one_encoding_serves_many_sentences(variables, outputs):
    """As in evaluation: each sentence uses its image among the prepared ones."""

    def run(v):
        prepared = WITH_SEGMENTER.apply(
            v, method=lambda m: m.prepare(m.encode_image(IMAGES, train=False))
        )
        of_sentence = jax.tree.map(lambda x: x[jnp.array([0, 0, 1, 1])], prepared)
        text = WITH_SEGMENTER.apply(v, TOKENS, LENGTHS, method="encode_text")
        return WITH_SEGMENTER.apply(v, of_sentence, text, train=False, method="refer")

    for one, two in zip(jax.jit(run)(variables)[:3], outputs[:3], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_the_loss_combines_four_maps_and_the_segmenter():
    rng = np.random.default_rng(1)
    heatmap, levels = rng.normal(size=(2, 1, 4, 4)), rng.normal(size=(2, 3, 4, 4))
    mask, truth4 = rng.normal(size=(2, 8, 8)), rng.integers(0, 2, (2, 8, 8))
    outputs = Outputs(*map(jnp.float32, (heatmap, mask, levels)))
    double = lambda x: jax.image.resize(jnp.float32(x), (2, 8, 8), "bilinear")  # noqa: E731
    response = float(segmentation_loss(double(heatmap[:, 0]), jnp.float32(truth4)))
    of_levels = sum(
        float(segmentation_loss(double(levels[:, i]), jnp.float32(truth4))) for i in range(3)
    )
    loss, losses = PLAIN.loss(outputs, truth4, None, 0.0)
    assert float(loss) == pytest.approx(0.7 * response + 0.1 * of_levels, rel=1e-5)
    assert float(losses["response_loss"]) == pytest.approx(response, rel=1e-5)
    both, losses = WITH_SEGMENTER.loss(outputs, truth4, None, 0.3)
    of_mask = float(segmentation_loss(jnp.float32(mask), jnp.float32(truth4)))
    assert float(losses["segmentation_loss"]) == pytest.approx(of_mask, rel=1e-5)
    assert float(both) == pytest.approx(of_mask + 0.3 * float(loss), rel=1e-5)
    more, losses = WITH_SEGMENTER.loss(outputs, truth4, None, 0.3, 0.5)
    dice = 0.5 * float(losses["dice_loss"]) + 0.3 * 0.5 * float(losses["response_dice_loss"])
    assert float(more) == pytest.approx(float(both) + dice, rel=1e-5)


@pytest.mark.slow
def test_gradients_reach_every_parameter_and_remat_does_not_change_them(variables):
    def gradients(model):
        def loss(params):
            outputs, _ = model.apply(
                {**variables, "params": params},
                *(IMAGES, TOKENS, LENGTHS),
                train=True,
                mutable=["batch_stats"],
            )
            return model.loss(outputs, np.ones((4, 8, 16)), None, 0.5)[0]

        # Otherwise most of the time would be spent in the compiler.
        quick = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
        return jax.jit(jax.grad(loss), compiler_options=quick)(variables["params"])

    plain, again = gradients(WITH_SEGMENTER), gradients(WITH_SEGMENTER.clone(remat=True))
    for (path, one), two in zip(
        jax.tree_util.tree_leaves_with_path(plain), jax.tree.leaves(again), strict=True
    ):
        name = jax.tree_util.keystr(path)
        scale = np.abs(one).max()
        # A softmax is invariant to adding a constant to all its inputs.
        constant = "['key" in name and "bias" in name
        assert scale > 0 or constant, name
        np.testing.assert_allclose(one, two, atol=1e-3 * scale + 1e-4, err_msg=name)


@pytest.mark.slow
def test_it_computes_in_bfloat16(variables, outputs):
    model = WITH_SEGMENTER.clone(dtype=jnp.bfloat16)
    low = jax.jit(lambda v: model.apply(v, IMAGES, TOKENS, LENGTHS, train=False))(variables)
    assert all(x.dtype == jnp.float32 for x in low[:3])
    assert relative_error(low.heatmap, outputs.heatmap) < 0.1


def test_a_backbone_with_several_strides_is_refused():
    with pytest.raises(ValueError, match=r"model\.backbone='resnet50' must be a dilated backbone"):
        CMPC(9, image_encoder="resnet50").init(
            jax.random.key(0), IMAGES, TOKENS, LENGTHS, train=False
        )


def test_parameters_by_part_match_the_calculation():
    d = c = 1000  # words, nodes
    q = 500
    words = 100
    backbone = 42_500_160  # ResNet-101's 44,549,160 without its classifier, 2048 · 1000 + 1000
    text = 300 * words + 4 * d * (300 + d + 1)
    types = (d + 1) * 500 + 501 * 4
    of_level = (
        5 * (c + 8 + 1) * c  # image, five heads
        + 5 * (d + 1) * c  # sentence
        + (d + 1) * c  # relation words
        + 2 * (c + 1) * c  # cells, update
        + 2 * 2 * c  # two norms
        + (2 * c + d + 8 + 1) * q
        + 9 * q
        + 1  # score
    )
    lateral = sum((channels + 1) * c for channels in (512, 1024, 2048))
    of_round = 3 * ((q + 1) * q + (d + 1) * q + (q + d + 1) * q + 4 * (q + 1) * q)
    lstm = 2 * q * 4 * q + 3 * 40 * 40 * q + 5 * 2 * q
    channels, f = q + 1, 256  # including the prior
    aspp = 2 * channels * f + 3 * 9 * channels * f + 5 * f * f + 16 * f * f
    expected = {
        "backbone": backbone,
        "text": text,
        "fusion": types + lateral + 3 * of_level,
        "locator": 3 * of_round + lstm + 9 * q + 1,
        "segmenter": aspp + 7 * 2 * f + f + 1,  # seven BatchNorms, output map
    }
    model = CMPC(vocab_size=words, segment=True)
    shapes = jax.eval_shape(
        lambda: model.init(
            jax.random.key(0),
            jnp.zeros((1, 320, 320, 3)),
            jnp.ones((1, 20), jnp.int32),
            jnp.ones((1,), jnp.int32),
            train=False,
        )
    )["params"]
    counted = {name: parameter_overview.count_parameters(part) for name, part in shapes.items()}
    assert counted == expected
