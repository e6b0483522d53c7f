import numpy as np

from lts_jax.evaluation.locator_maps import select


def test_words_are_named_and_signed():
    words = np.zeros((4, 2, 2), np.float32)
    words[0, 0, 0], words[1, 1, 1] = 2.0, -4.0
    selected = select({"round1/heatmap": np.zeros((2, 2)), "round1/words": words}, ["red", "cup"])
    assert list(selected) == ["round1, word 1: red", "round1, word 2: cup"]
    first, second = selected.values()
    np.testing.assert_allclose(first, [[0.75, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(second, [[0.5, 0.5], [0.5, 0.0]])


def test_attention_is_that_of_the_largest_cell_by_head_and_round():
    rng = np.random.default_rng(0)
    maps = {}
    peaks = {"round1": (1, 2), "round2": (0, 1)}
    for name, peak in peaks.items():
        maps[f"{name}/heatmap"] = np.zeros((2, 3), np.float32)
        maps[f"{name}/heatmap"][peak] = 0.9
        maps[f"{name}/self_attention"] = rng.dirichlet(np.ones(6), (2, 6)).astype(np.float32)
        maps[f"{name}/cross_attention"] = np.ones((2, 6, 1), np.float32)
    selected = select(maps, ["red"])
    assert list(selected) == [f"round{r}, head {h}, from the peak" for r in (1, 2) for h in (1, 2)]
    for (name, (y, x)), first in zip(peaks.items(), (0, 2), strict=True):
        for head in (0, 1):
            looked = maps[f"{name}/self_attention"][head, 3 * y + x].reshape(2, 3)
            drawn = list(selected.values())[first + head]
            np.testing.assert_allclose(drawn, looked / looked.max())


def test_a_filter_has_nothing_beside_its_heatmaps():
    assert select({"round1/heatmap": np.zeros((2, 2))}, ["red"]) == {}
