"""The field's metrics from per-sentence intersections and unions, in pixels of the originals."""

import numpy as np

PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
METRIC_NAMES = ("oiou", "miou", *(f"prec@{x}" for x in PRECISION_AT), "pointing")

Metrics = dict[str, float | None]
"""The value of each of `METRIC_NAMES`, as metrics.json has them; None without a heatmap."""


def iou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Intersection over union per sentence, float64 `[N]`; 1 where both masks are empty."""
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def summarize(intersection: np.ndarray, union: np.ndarray, pointing: np.ndarray | None) -> Metrics:
    """Computes the metrics over N ≥ 1 sentences.

    Args:
      intersection: integer `[N]`, pixels.
      union: integer `[N]`, pixels.
      pointing: bool or float `[N]`, whether the heatmap's maximum falls inside the truth, NaN
        where a sentence has no target; or None where the network makes no heatmap.

    Returns:
      `oiou` ΣI/ΣU, `miou` the mean of I/U, `prec@X` the share of sentences with an IoU strictly
      greater than X, and `pointing` the share of hits (Section 4.3: 81.74 % on RefCOCO val), or
      None. All others are floats.
    """
    given = [x.shape for x in (intersection, union, pointing) if x is not None]
    if len(set(given)) > 1 or intersection.ndim != 1:
        raise ValueError(f"one value a sentence: {', '.join(map(str, given))}")
    if not len(intersection):
        raise ValueError("metrics of no sentence at all are undefined")
    each = iou(intersection, union)
    total = int(union.sum(dtype=np.int64))
    hits = None if pointing is None else pointing[~np.isnan(pointing.astype(float))]
    return {
        "oiou": int(intersection.sum(dtype=np.int64)) / total if total else 1.0,
        "miou": float(each.mean()),
        **{f"prec@{x}": float((each > x).mean()) for x in PRECISION_AT},
        "pointing": float(hits.mean()) if hits is not None and len(hits) else None,
    }


def hits(hit: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Pointing float64 `[N]` as `summarize` takes it: NaN where the truth's `area` is 0."""
    return np.where(area > 0, hit, np.nan)
