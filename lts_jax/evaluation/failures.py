"""Why a mask failed: two candidates joined, the wrong object, a crumbled mask, or none at all.

A sentence is a failure if its mask has an IoU of 0.5 or less, so that it does not count for
prec@0.5. Which kind of failure it is goes by two numbers: how much of the target the mask covers,
and how much lies outside of it, as a share of the target too. No other object's mask is needed, so
that the kinds are known for any data set and anybody's predictions.
"""

from collections.abc import Mapping

import numpy as np

from lts_jax.evaluation import metrics

FAILED = 0.5  # IoU up to which a mask is a failure
MUCH = 0.3  # of the target's pixels

JOINED, WRONG, CRUMBLED, NOTHING, NO_TARGET = KINDS = (
    "two joined",
    "wrong object",
    "crumbled",
    "nothing",
    "no target",
)
MEANINGS: Mapping[str, str] = {
    JOINED: "The mask covers much of the target, and as much beside it: another candidate too.",
    WRONG: "Most of the mask lies beside the target, of which it covers little.",
    CRUMBLED: "The right place, as most of the mask lies on the target, but too little of it.",
    NOTHING: "The mask is empty.",
    NO_TARGET: "The sentence has no target, and the mask is not empty.",
}


def kinds(intersection: np.ndarray, union: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Returns the kind of each failure, one of `KINDS`, str `[N]`; "" of what is no failure.

    Args:
      intersection: integer `[N]`, pixels.
      union: integer `[N]`, pixels.
      area: integer `[N]`, pixels of the truth, 0 for a sentence without a target.
    """
    outside = union - area
    conditions = {
        "": metrics.iou(intersection, union) > FAILED,
        NO_TARGET: area == 0,
        NOTHING: intersection + outside == 0,
        JOINED: (intersection >= MUCH * area) & (outside >= MUCH * area),
        CRUMBLED: intersection >= outside,
    }
    found: np.ndarray = np.select(list(conditions.values()), list(conditions), WRONG)
    return found


def count(found: np.ndarray) -> dict[str, int]:
    """Counts the failures of each kind."""
    return {name: int((found == name).sum()) for name in KINDS}
