import jax
import numpy as np
import pytest

from lts_jax.models import LTS, refer_with_maps
from tests.lts_jax.helpers.drawn import draw_variables
from tests.lts_jax.helpers.tiny import TINY

IMAGE = np.random.default_rng(0).uniform(size=(2, 64, 96, 3)).astype(np.float32)
TOKENS = np.array([[2, 3, 4, 0], [5, 6, 0, 0]], np.int32)
LENGTHS = np.array([3, 2], np.int32)
CELLS = 8 * 12


def run(**fields):
    model = LTS(vocab_size=9, **TINY, **fields)

    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), IMAGE, TOKENS, LENGTHS, train=False)
    )

    @jax.jit
    def everything(variables):
        image = model.apply(variables, IMAGE, train=False, method="encode_image")
        text = model.apply(variables, TOKENS, LENGTHS, method="encode_text")
        expected = model.apply(variables, image, text, train=False, method="refer")
        return expected, refer_with_maps(model, variables, image, text)

    expected, (outputs, maps) = everything(draw_variables(shapes))
    np.testing.assert_allclose(outputs.mask, expected.mask, rtol=1e-6)
    return outputs, maps


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 3])
def test_filter_shows_every_round(rounds):
    outputs, maps = run(rounds=rounds)
    assert list(maps) == [f"round{i}/heatmap" for i in range(1, rounds + 1)]
    for i, heatmap in enumerate(maps.values()):
        np.testing.assert_array_equal(heatmap, jax.nn.sigmoid(outputs.heatmap[:, i]))


@pytest.mark.slow
def test_word_filter_returns_the_response_to_each_word():
    _, maps = run(locate="word_filter")
    assert list(maps) == ["round1/heatmap", "round1/words"]
    words = np.asarray(maps["round1/words"])
    assert words.shape == (2, 4, 8, 12)
    shown = words.any(axis=(2, 3))
    np.testing.assert_array_equal(shown, np.arange(4) < LENGTHS[:, None])


@pytest.mark.slow
def test_transformer_returns_attention_weights():
    _, maps = run(locate="transformer", rounds=2)
    names = ("heatmap", "self_attention", "cross_attention")
    assert sorted(maps) == sorted(f"round{i}/{name}" for i in (1, 2) for name in names)
    for i in (1, 2):
        attention = np.asarray(maps[f"round{i}/self_attention"])
        assert attention.shape == (2, 4, CELLS, CELLS)
        np.testing.assert_allclose(attention.sum(axis=-1), 1, atol=1e-5)
        assert attention.std(axis=-1).min() > 0  # attention is not uniform
        np.testing.assert_array_equal(maps[f"round{i}/cross_attention"], 1)
    assert np.abs(maps["round1/self_attention"] - maps["round2/self_attention"]).max() > 1e-4


def test_without_a_locator_there_are_no_maps():
    outputs, maps = run(locate="none")
    assert outputs.heatmap is None and not maps
