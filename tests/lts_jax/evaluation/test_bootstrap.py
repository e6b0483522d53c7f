import numpy as np
import pytest

from lts_jax.evaluation import bootstrap
from lts_jax.evaluation.bootstrap import Scores


def make(seed, n=300, images=60, shift=0.0):
    rng = np.random.default_rng(seed)
    union = rng.integers(100, 1000, n)
    share = np.clip(rng.beta(3, 2, n) + shift, 0, 1)
    image_id = np.sort(rng.integers(0, images, n)) * 7
    pointing = (rng.random(n) < 0.7) * 1.0
    return Scores(image_id, (union * share).astype(int), union, pointing, boxes=rng.random(n))


def test_intervals_equal_drawing_sentence_by_sentence():
    """The same draws, computed slowly: metrics of the concatenated sentences of drawn images."""
    scores = make(0, n=40, images=9)
    draws = 30
    result = bootstrap.intervals(scores, draws=draws, seed=3)
    images = np.unique(scores.image_id)
    rng = np.random.default_rng(3)
    values = []
    for drawn in rng.integers(0, len(images), (draws, len(images))):
        rows = np.concatenate([np.flatnonzero(scores.image_id == images[i]) for i in drawn])
        values.append(scores.take(rows).summarize())
    for name, interval in result.items():
        expected = np.quantile([v[name] for v in values], (0.025, 0.975))
        np.testing.assert_allclose(interval, expected, rtol=1e-12)


def test_the_interval_contains_the_true_value_as_often_as_its_level():
    held = 0
    for seed in range(120):
        low, high = bootstrap.intervals(make(seed), draws=200)["miou"]
        held += low <= 0.6 <= high  # the mean of beta(3, 2)
    assert 0.87 <= held / 120 <= 1


def test_differences():
    a, b = make(1), make(1, shift=0.05)
    same = bootstrap.differences(a, a)
    assert all(v["difference"] == 0 and v["interval"] == [0, 0] for v in same.values())
    assert all(v["p"] == 1 for v in same.values())
    better = bootstrap.differences(a, b)["miou"]
    assert better["difference"] > 0.03 and better["interval"][0] > 0
    assert better["p"] == pytest.approx(2 / 2001)
    # Paired intervals are much narrower than those of two independent samples.
    alone = np.diff(bootstrap.intervals(a)["miou"])[0]
    assert np.diff(better["interval"])[0] < alone / 2


def test_no_pointing_and_no_target():
    scores = make(2)
    assert bootstrap.intervals(scores._replace(pointing=None), draws=10)["pointing"] is None
    nothing = scores._replace(pointing=np.full(len(scores.union), np.nan))
    assert bootstrap.intervals(nothing, draws=10)["pointing"] is None
    assert nothing.summarize()["pointing"] is None
    half = scores.pointing.copy()
    half[::2] = np.nan
    result = scores._replace(pointing=half).summarize()["pointing"]
    assert result == np.mean(scores.pointing[1::2])


def test_a_metric_that_is_undefined_in_all_draws():
    scores = make(2, n=40, images=9)
    here = np.where(scores.image_id == scores.image_id[0], 1.0, np.nan)
    there = np.where(scores.image_id == scores.image_id[-1], 1.0, np.nan)
    a, b = scores._replace(pointing=here), scores._replace(pointing=there)
    assert a.summarize()["pointing"] == b.summarize()["pointing"] == 1
    result = [bootstrap.differences(a, b, draws=1, seed=seed)["pointing"] for seed in range(8)]
    assert None in result and any(result)


def test_two_runs_require_the_same_images():
    with pytest.raises(ValueError, match="same sentences"):
        bootstrap.differences(make(0), make(1))
