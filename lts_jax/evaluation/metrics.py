"""Segmentation metrics from intersections and unions per sentence, in original image pixels."""

import numpy as np

PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
BOX_ACCURACY = "acc@0.5"  # of referring expression comprehension, from the masks' boxes
METRIC_NAMES = ("oiou", "miou", *(f"prec@{x}" for x in PRECISION_AT), "pointing", BOX_ACCURACY)
# Of gRefCOCO, for splits that have sentences without a target; the values are the authors' names.
GENERALIZED = {"giou": "gIoU", "ciou": "cIoU", "n_acc": "N-acc", "t_acc": "T-acc"} | {
    f"pr@{x}": f"Pr@{x}" for x in PRECISION_AT
}

Metrics = dict[str, float | None]
"""The values of `METRIC_NAMES`, and of `GENERALIZED` where they apply; None where undefined."""


def iou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Returns the intersection over union per sentence, float64 `[N]`; 1 if both are empty."""
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Returns the bounding box of a mask bool `[h, w]`.

    The box is `x0, y0, x1, y1` in pixels, `x1` and `y1` exclusive; all 0 if the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_iou(boxes: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Returns the IoU of two boxes per sentence, float64 `[N]`; NaN without a target.

    Args:
      boxes: integer `[N, 2, 4]`, of the prediction and the ground truth, as `box` returns them.
      area: integer `[N]`, pixels of the ground truth, 0 for a sentence without a target.
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
      pointing: bool or float `[N]`, whether the heatmap's maximum is inside the ground truth, NaN
        for a sentence without a target; None if the network has no heatmap.
      boxes: float `[N]`, as `box_iou` returns it; None if boxes are unknown.

    Returns:
      `oiou` ΣI/ΣU; `miou` the mean of I/U; `prec@X` the share of sentences, including those without
      a target, with an IoU strictly greater than X; `pointing` the share of hits (Section 4.3:
      81.74 % on RefCOCO val); and `acc@0.5` the share of sentences with a target whose boxes have
      an IoU of 0.5 or more. `pointing` and `acc@0.5` may be None.

    Raises:
      ValueError: the shapes differ, or there are no sentences.
    """
    shapes = [x.shape for x in (intersection, union, pointing, boxes) if x is not None]
    if len(set(shapes)) > 1 or intersection.ndim != 1:
        raise ValueError(
            f"expected arrays of one shape [N], got shapes {', '.join(map(str, shapes))}"
        )
    if not len(intersection):
        raise ValueError("no sentences: metrics require at least one")
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

    A sentence without a target is correct if and only if the predicted mask is empty. For TP, FN,
    FP and TN below, "no target" is the positive class.

    Args:
      intersection: integer `[N]`, pixels.
      union: integer `[N]`, pixels.
      area: integer `[N]`, pixels of the ground truth, 0 for a sentence without a target.

    Returns:
      `giou` the mean IoU, which is 1 for a correct "no target"; `ciou` ΣI/ΣU; `n_acc` TP/(TP+FN),
      the share of sentences without a target that have an empty mask; `t_acc` TN/(TN+FP), the share
      of the others that have a nonempty mask; `pr@X` the share of sentences *with* a target whose
      IoU is X or more, as in the authors' evaluator. None if there is no such sentence.
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
    """Returns `pointing` for `summarize`, float64 `[N]`: NaN where the target's `area` is 0."""
    return np.where(area > 0, hit, np.nan)
