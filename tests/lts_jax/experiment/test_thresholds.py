"""The choice of the best threshold, and the thresholds of an evaluation."""

import pytest

from lts_jax.experiment import thresholds
from lts_jax.experiment.thresholds import Threshold, Thresholds


def test_the_best_of_one_split_and_of_several():
    at = [0.25, 0.3, 0.35]
    val = {"threshold": at, "oiou": [0.5, 0.7, 0.7]}
    assert thresholds.choose([val]) == (0.3, 0.7)  # the lowest in case of ties
    other = {"threshold": at, "oiou": [0.9, 0.5, 0.6]}
    best = thresholds.choose([val, other])
    assert best.value == 0.25 and best.oiou == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("setting", "best", "used", "other"),
    [
        (0.3, 0.4, (0.3, ""), (0.4, "dev")),
        (0.25, None, (0.25, ""), None),
        (0.25, 0.25, (0.25, "dev"), None),
        ("val", 0.4, (0.4, "dev"), (0.25, "")),
        ("val", 0.25, (0.25, "dev"), None),
        ("val", None, (0.25, ""), None),  # during training, before the first choice
    ],
)
def test_the_used_and_the_other_threshold(setting, best, used, other):
    result = thresholds.resolve(setting, best and Threshold(best, "dev"))
    assert result == Thresholds(Threshold(*used), other and Threshold(*other))
    assert result.values == tuple(x[0] for x in (used, other) if x)


def test_names():
    assert str(Threshold(0.25)) == "0.25"
    assert str(Threshold(0.4, "a/val, b/val")) == "0.4, best on a/val, b/val"
