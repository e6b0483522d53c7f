"""The field's metrics from per-sentence intersections and unions, in pixels of the originals."""

import numpy as np

PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
BOX_ACCURACY = "acc@0.5"  # of referring expression comprehension, by the masks' boxes
METRIC_NAMES = ("oiou", "miou", *(f"prec@{x}" for x in PRECISION_AT), "pointing", BOX_ACCURACY)
# Of gRefCOCO, where a split has sentences without a target; by the names that its authors print.
GENERALIZED = {"giou": "gIoU", "ciou": "cIoU", "n_acc": "N-acc", "t_acc": "T-acc"} | {
    f"pr@{x}": f"Pr@{x}" for x in PRECISION_AT
}

Metrics = dict[str, float | None]
"""The values of `METRIC_NAMES`, and of `GENERALIZED` where they apply; None where undefined."""


def iou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Intersection over union per sentence, float64 `[N]`; 1 where both masks are empty."""
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Returns the box of a mask bool `[h, w]`: first and last column and row, the last exclusive.

    As `x0, y0, x1, y1`; all 0 if the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_iou(boxes: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Intersection over union of two boxes per sentence, float64 `[N]`; NaN without a target.

    Args:
      boxes: integer `[N, 2, 4]`, of the prediction and of the truth, as `box` returns them.
      area: integer `[N]`, pixels of the truth, 0 for a sentence without a target.
    """
    low = np.maximum(boxes[:, 0, :2], boxes[:, 1, :2])
    high = np.minimum(boxes[:, 0, 2:], boxes[:, 1, 2:])
    shared = np.maximum(high - low, 0).prod(-1, dtype=np.int64)
    both = (boxes[..., 2:] - boxes[..., :2]).prod(-1, dtype=np.int64).sum(-1)
    return np.where(area > 0, shared / np.maximum(both - shared, 1), np.nan)


def summarize(
    intersection: np.ndarray,
    union: np.ndarray,
    pointing: np.ndarray | None,
    boxes: np.ndarray | None = None,
) -> Metrics:
    """Computes the metrics over N ≥ 1 sentences.

    Args:
      intersection: integer `[N]`, pixels.
      union: integer `[N]`, pixels.
      pointing: bool or float `[N]`, whether the heatmap's maximum falls inside the truth, NaN
        where a sentence has no target; or None where the network makes no heatmap.
      boxes: float `[N]`, as `box_iou` returns it; or None where boxes are unknown.

    Returns:
      `oiou` ΣI/ΣU, `miou` the mean of I/U, `prec@X` the share of sentences with an IoU strictly
      greater than X, sentences without a target included, and `pointing` the share of hits
      (Section 4.3: 81.74 % on RefCOCO val), or None. `acc@0.5` is the share of sentences with a
      target whose masks' boxes have an IoU of 0.5 or more, or None. All others are floats.
    """
    given = [x.shape for x in (intersection, union, pointing, boxes) if x is not None]
    if len(set(given)) > 1 or intersection.ndim != 1:
        raise ValueError(f"one value a sentence: {', '.join(map(str, given))}")
    if not len(intersection):
        raise ValueError("metrics of no sentence at all are undefined")
    each = iou(intersection, union)
    total = int(union.sum(dtype=np.int64))
    hits = None if pointing is None else pointing[~np.isnan(pointing.astype(float))]
    known = None if boxes is None else boxes[~np.isnan(boxes)]
    return {
        "oiou": int(intersection.sum(dtype=np.int64)) / total if total else 1.0,
        "miou": float(each.mean()),
        **{f"prec@{x}": float((each > x).mean()) for x in PRECISION_AT},
        "pointing": float(hits.mean()) if hits is not None and len(hits) else None,
        BOX_ACCURACY: float((known >= 0.5).mean()) if known is not None and len(known) else None,
    }


def summarize_generalized(intersection: np.ndarray, union: np.ndarray, area: np.ndarray) -> Metrics:
    """Computes the metrics of gRefCOCO (Liu et al., GRES, CVPR 2023) over N ≥ 1 sentences.

    A sentence without a target is right if, and only if, the predicted mask is empty; TP, FN, FP
    and TN below count "no target" as the positive answer.

    Args:
      intersection: integer `[N]`, pixels.
      union: integer `[N]`, pixels.
      area: integer `[N]`, pixels of the truth, 0 for a sentence without a target.

    Returns:
      `giou` the mean IoU, which is 1 for a right "no target"; `ciou` ΣI/ΣU; `n_acc` TP/(TP+FN),
      the share of sentences without a target that get an empty mask; `t_acc` TN/(TN+FP), the share
      of the others that get a mask; `pr@X` the share of sentences *with* a target whose IoU is X
      or more, as in the authors' evaluator. None where there is no such sentence.
    """
    of_all = summarize(intersection, union, None)
    target, empty = area > 0, union - area + intersection == 0
    with_target = iou(intersection, union)[target]

    def share(rows: np.ndarray) -> float | None:
        return float(rows.mean()) if len(rows) else None

    return {
        "giou": of_all["miou"],
        "ciou": of_all["oiou"],
        "n_acc": share(empty[~target]),
        "t_acc": share(~empty[target]),
        **{f"pr@{x}": share(with_target >= x) for x in PRECISION_AT},
    }


def hits(hit: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Pointing float64 `[N]` as `summarize` takes it: NaN where the truth's `area` is 0."""
    return np.where(area > 0, hit, np.nan)
