import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.evaluation import locator_maps
from lts_jax.models import refer_with_maps
from tests.lts_jax.helpers.made_split import SIDE, make_model


def test_words_are_named_and_weighted():
    words = np.zeros((4, 2, 2), np.float32)
    words[0, 0, 0], words[1, 1, 1] = 2.0, -4.0
    maps = {"round1/heatmap": np.zeros((2, 2)), "round2/words": words}
    locator = {"round1": {"regress": {"kernel": np.array([[1.0], [-0.5], [9.0], [9.0]])}}}
    result = locator_maps.by_word(maps, ["red", "cup"], locator)
    assert list(result) == ["round2, word 1: red", "round2, word 2: cup"]
    first, second = result.values()
    np.testing.assert_allclose(first, [[2, 0], [0, 0]])
    np.testing.assert_allclose(second, [[0, 0], [0, 2]])


@pytest.mark.slow
def test_contributions_of_words_sum_to_the_logit():
    """Together with the regression's bias."""
    model, state = make_model(locate="word_filter", rounds=2)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    image = np.random.default_rng(0).uniform(size=(1, SIDE, SIDE, 3)).astype(np.float32)
    tokens, length = jnp.array([[2, 5, 3, 0, 0, 0]]), jnp.array([3])
    text = model.apply(variables, tokens, length, method="encode_text")
    features = model.apply(variables, image, train=False, method="encode_image")
    outputs, maps = refer_with_maps(model, variables, features, text)
    maps = {name: np.asarray(values[0]) for name, values in maps.items()}
    locator = jax.device_get(state.params["locator"])
    result = locator_maps.by_word(maps, ["a", "b", "c"], locator)
    for i in (1, 2):
        added = [values for title, values in result.items() if title.startswith(f"round{i},")]
        assert len(added) == 3
        logit = sum(added) + locator[f"round{i - 1}"]["regress"]["bias"]
        np.testing.assert_allclose(logit, outputs.heatmap[0, i - 1], atol=1e-4)


def test_attention_is_that_of_the_largest_cell_by_head_and_round():
    rng = np.random.default_rng(0)
    maps = {}
    peaks = {"round1": (1, 2), "round2": (0, 1)}
    for name, peak in peaks.items():
        maps[f"{name}/heatmap"] = np.zeros((2, 3), np.float32)
        maps[f"{name}/heatmap"][peak] = 0.9
        maps[f"{name}/self_attention"] = rng.dirichlet(np.ones(6), (2, 6)).astype(np.float32)
        maps[f"{name}/cross_attention"] = np.ones((2, 6, 1), np.float32)
    result = locator_maps.attention(maps)
    assert list(result) == [f"round{r}, head {h}, from the peak" for r in (1, 2) for h in (1, 2)]
    for (name, (y, x)), first in zip(peaks.items(), (0, 2), strict=True):
        for head in (0, 1):
            looked = maps[f"{name}/self_attention"][head, 3 * y + x].reshape(2, 3)
            drawn = list(result.values())[first + head]
            np.testing.assert_allclose(drawn, 6 * looked)
            assert drawn.mean() == pytest.approx(1)


def test_all_maps_of_a_sentence_have_one_range():
    added = {"a": np.array([[5.0, 9.0]]), "b": np.array([[100.0, 101.0]])}
    result = locator_maps.in_one_range(added, {})
    (a, of), (b, same) = result.values()
    assert of == same and (of.low, of.high, of.signed) == (-2, 2, True)
    np.testing.assert_allclose((a, b), ([[-2, 2]], [[-0.5, 0.5]]))  # the mean is subtracted
    looked = {"head 1": np.array([[0.5, 1.5]]), "head 2": np.array([[0.0, 4.0]])}
    result = locator_maps.in_one_range({}, looked)
    assert {(of.low, of.high, of.signed) for _, of in result.values()} == {(1, 4, False)}
    even = locator_maps.in_one_range({}, {"head": np.ones((2, 2))})["head"][1]
    assert even.high > even.low


def test_a_filter_has_no_maps_other_than_heatmaps():
    maps = {"round1/heatmap": np.zeros((2, 2))}
    assert locator_maps.by_word(maps, ["red"], {}) == locator_maps.attention(maps) == {}
