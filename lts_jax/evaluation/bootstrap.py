"""Bootstrap confidence intervals of the metrics.

The sentences of an image are not independent, so images are resampled, each with all of its
sentences. Every metric is a ratio of two sums over the resampled images.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from lts_jax.evaluation import metrics

DRAWS = 2000
LEVEL = 0.95
_CHUNK = 100  # draws per chunk, to bound the memory


class Scores(NamedTuple):
    """The scores of N sentences."""

    image_id: np.ndarray  # int [N]
    intersection: np.ndarray  # int [N], pixels
    union: np.ndarray  # int [N], pixels
    pointing: np.ndarray | None  # float [N], see `lts_jax.evaluation.metrics.summarize`
    area: np.ndarray | None = None  # int [N], pixels of the ground truth; None: all have a target
    boxes: np.ndarray | None = None  # float [N], see `lts_jax.evaluation.metrics.box_iou`

    @property
    def generalized(self) -> bool:
        """Whether any sentence has no target."""
        return self.area is not None and not self.area.all()

    def take(self, rows: np.ndarray) -> "Scores":
        """Selects sentences by a mask or by index."""
        pointing = None if self.pointing is None else self.pointing[rows]
        area = None if self.area is None else self.area[rows]
        boxes = None if self.boxes is None else self.boxes[rows]
        return Scores(
            self.image_id[rows], self.intersection[rows], self.union[rows], pointing, area, boxes
        )

    def summarize(self) -> metrics.Metrics:
        """Computes the metrics, including those of gRefCOCO if any sentence has no target."""
        result = metrics.summarize(self.intersection, self.union, self.pointing, self.boxes)
        if self.area is not None and self.generalized:
            result |= metrics.summarize_generalized(self.intersection, self.union, self.area)
        return result


def intervals(scores: Scores, draws: int = DRAWS, seed: int = 0) -> dict[str, list[float] | None]:
    """Returns the 95 % percentile interval `[low, high]` of each metric; None if undefined."""
    names, sums = _sums(scores)
    values = np.concatenate([_ratios(w, sums) for w in _weights(sums.shape[1], draws, seed)])
    result: dict[str, list[float] | None] = dict.fromkeys((*metrics.METRIC_NAMES, *names))
    for name, column in zip(names, values.T, strict=True):
        if not np.isnan(column).all():
            result[name] = np.nanquantile(column, _tails()).tolist()
    return result


def differences(
    a: Scores, b: Scores, draws: int = DRAWS, seed: int = 0
) -> dict[str, dict[str, Any] | None]:
    """Compares two runs on the same sentences, in the same order, with the same resamples.

    Returns:
      For each metric: `a`, `b`, `difference` (b − a), its 95 % `interval`, and the two-sided `p`.
      `p` is twice the smaller of the shares of draws with a difference ≤ 0 and ≥ 0, and at least
      2 / (draws + 1). The value is None if the metric is undefined for a run or in all draws.

    Raises:
      ValueError: the image ids differ.
    """
    if not np.array_equal(a.image_id, b.image_id):
        raise ValueError(
            "a paired comparison requires the same sentences in the same order: image_id differs"
        )
    (names_a, sums_a), (names_b, sums_b) = _sums(a), _sums(b)
    of_a, of_b = a.summarize(), b.summarize()
    drawn_a, drawn_b = [], []
    for w in _weights(sums_a.shape[1], draws, seed):
        drawn_a.append(_ratios(w, sums_a))
        drawn_b.append(_ratios(w, sums_b))
    all_a, all_b = np.concatenate(drawn_a), np.concatenate(drawn_b)
    shared = [name for name in of_a if name in of_b]
    result: dict[str, dict[str, Any] | None] = dict.fromkeys(shared)
    for name in shared:
        value_a, value_b = of_a[name], of_b[name]
        if value_a is None or value_b is None:
            continue
        change = all_b[:, names_b.index(name)] - all_a[:, names_a.index(name)]
        change = change[~np.isnan(change)]
        if not len(change):
            continue
        tail = min((change <= 0).sum(), (change >= 0).sum())
        result[name] = {
            "a": value_a,
            "b": value_b,
            "difference": value_b - value_a,
            "interval": np.quantile(change, _tails()).tolist(),
            "p": float(min(1.0, 2 * (tail + 1) / (len(change) + 1))),
        }
    return result


def _sums(scores: Scores) -> tuple[list[str], np.ndarray]:
    """Returns metric names, and numerators and denominators per image, `[2, M, metrics]`."""
    images, image = np.unique(scores.image_id, return_inverse=True)
    iou = metrics.iou(scores.intersection, scores.union)
    ones = np.ones(len(iou))
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]] = {
        "oiou": (scores.intersection, scores.union),
        "miou": (iou, ones),
        **{f"prec@{x}": (iou > x, ones) for x in metrics.PRECISION_AT},
    }
    if scores.pointing is not None:
        known = ~np.isnan(scores.pointing)
        parts = {**parts, "pointing": (np.nan_to_num(scores.pointing), known)}
    if scores.boxes is not None:
        known = ~np.isnan(scores.boxes)
        parts = {**parts, metrics.BOX_ACCURACY: (scores.boxes >= 0.5, known)}  # NaN: False
    if scores.area is not None and scores.generalized:
        target = scores.area > 0
        empty = scores.union - scores.area + scores.intersection == 0
        parts = {
            **parts,
            "giou": parts["miou"],
            "ciou": parts["oiou"],
            "n_acc": (empty & ~target, ~target),
            "t_acc": (~empty & target, target),
            **{f"pr@{x}": ((iou >= x) & target, target) for x in metrics.PRECISION_AT},
        }
    sums = np.zeros((2, len(images), len(parts)))
    for i, pair in enumerate(parts.values()):
        for k, values in enumerate(pair):
            sums[k, :, i] = np.bincount(image, weights=values, minlength=len(images))
    return list(parts), sums


def _weights(images: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each image is drawn, `[chunk, images]`."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _CHUNK):
        drawn = rng.integers(0, images, (min(_CHUNK, draws - start), images))
        offset = images * np.arange(len(drawn))[:, None]
        counts = np.bincount((drawn + offset).ravel(), minlength=drawn.size)
        yield counts.reshape(drawn.shape).astype(float)


def _ratios(weights: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Returns the metrics of each draw, `[draws, metrics]`; NaN where undefined."""
    above, below = weights @ sums[0], weights @ sums[1]
    ratios: np.ndarray = np.full_like(above, np.nan)
    np.divide(above, below, out=ratios, where=below > 0)
    return ratios


def _tails() -> tuple[float, float]:
    return (1 - LEVEL) / 2, (1 + LEVEL) / 2
