"""Mask thresholds, the probabilities above which a pixel is foreground: fixed, and best on val.

The paper's threshold of 0.25 is far from optimal on some data. The best threshold is chosen during
training, on `eval.best_split` only, and stored with each checkpoint. Scores are reported at both.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lts_jax.configs.default import FIELDS
from lts_jax.errors import ConfigError


class Threshold(NamedTuple):
    """A threshold and its origin.

    Attributes:
      value: a probability.
      chosen_on: the splits on which it has the best oIoU; "" for a number in the config.
    """

    value: float
    chosen_on: str = ""

    def __str__(self) -> str:
        return f"{self.value:g}, best on {self.chosen_on}" if self.chosen_on else f"{self.value:g}"


class Thresholds(NamedTuple):
    """The thresholds of an evaluation.

    Attributes:
      used: selected by `eval.threshold`, for the predicted masks.
      other: the second threshold at which scores are reported; None if there is none.
    """

    used: Threshold
    other: Threshold | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """The values, with that of `used` first."""
        return tuple(threshold.value for threshold in self if threshold is not None)


class Best(NamedTuple):
    """The best threshold on some splits.

    Attributes:
      value: one of `lts_jax.steps.scoring.CURVE`; the lowest in case of ties.
      oiou: mean over the splits at this threshold.
    """

    value: float
    oiou: float


def choose(curves: Sequence[Mapping[str, Sequence[float]]]) -> Best:
    """Chooses the threshold with the best mean oIoU.

    Args:
      curves: `threshold` and `oiou` of each split; `threshold` is the same for all.
    """
    oiou = np.mean([curve["oiou"] for curve in curves], axis=0)
    best = int(oiou.argmax())
    return Best(float(curves[0]["threshold"][best]), float(oiou[best]))


def fixed(setting: float | str) -> float:
    """Returns the number in `eval.threshold`; for "val", the paper's."""
    return float(FIELDS["eval.threshold"].default if isinstance(setting, str) else setting)


def resolve(setting: float | str, best: Threshold | None) -> Thresholds:
    """Returns the thresholds to evaluate and predict with.

    Args:
      setting: `eval.threshold`, a number or "val".
      best: the best threshold of a checkpoint; None if unknown, for example during training.
    """
    number = Threshold(fixed(setting))
    if best is None:
        return Thresholds(number)
    if best.value == number.value:
        return Thresholds(best)
    return Thresholds(best, number) if isinstance(setting, str) else Thresholds(number, best)


def stored(
    setting: float | str, value: float | None, chosen_on: str, where: object
) -> Threshold | None:
    """Returns the best threshold stored with a network; None if there is none.

    Args:
      setting: `eval.threshold`.
      value: the stored value.
      chosen_on: `eval.best_split` of the training.
      where: the file or folder that stores it, for the error.

    Raises:
      ConfigError: the setting requires the best threshold, but none is stored.
    """
    if value is not None:
        return Threshold(value, chosen_on)
    if isinstance(setting, str):
        raise ConfigError(
            f"eval.threshold={setting}: {where} contains no best threshold on {chosen_on}; set "
            "eval.threshold to a number"
        )
    return None


def name_of(part: Mapping[str, Any]) -> str:
    """Names the threshold in a file's part: "0.25" or "0.4, best on val"; "" if unknown."""
    return str(Threshold(part["threshold"], part["chosen_on"])) if "threshold" in part else ""


def describe(threshold: Threshold) -> dict[str, Any]:
    """Returns a threshold as plain data, for files."""
    return {"threshold": threshold.value, "chosen_on": threshold.chosen_on}
