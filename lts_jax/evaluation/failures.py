"""Kinds of failures: two candidates joined, the wrong object, a crumbled mask, or an empty mask.

A sentence is a failure if its mask has an IoU of 0.5 or less, so that it does not count for
prec@0.5. The kind depends on two areas, each relative to the target's: the target pixels that the
mask covers, and the mask pixels outside the target. The masks of other objects are not needed, so
the kinds are available for any dataset and any predictions.
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
    JOINED: "The mask covers much of the target and as much outside it, such as another candidate.",
    WRONG: "Most of the mask is outside the target, and it covers little of the target.",
    CRUMBLED: "Most of the mask is on the target, but it covers too little of the target.",
    NOTHING: "The mask is empty.",
    NO_TARGET: "The sentence has no target, and the mask is not empty.",
}


def kinds(intersection: np.ndarray, union: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Returns the kind of each failure, one of `KINDS`, str `[N]`; "" for no failure.

    Args:
      intersection: integer `[N]`, pixels.
      union: integer `[N]`, pixels.
      area: integer `[N]`, pixels of the ground truth, 0 for a sentence without a target.
    """
    outside = union - area
    conditions = {
        "": metrics.iou(intersection, union) > FAILED,
        NO_TARGET: area == 0,
        NOTHING: intersection + outside == 0,
        JOINED: (intersection >= MUCH * area) & (outside >= MUCH * area),
        CRUMBLED: intersection >= outside,
    }
    failed: np.ndarray = np.select(list(conditions.values()), list(conditions), WRONG)
    return failed


def count(failed: np.ndarray) -> dict[str, int]:
    """Counts the failures of each kind."""
    return {name: int((failed == name).sum()) for name in KINDS}
