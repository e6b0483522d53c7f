"""What an evaluation has found of every sentence, and its files."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lts_jax.evaluation import bootstrap, breakdowns, metrics
from lts_jax.evaluation.metrics import GENERALIZED, METRIC_NAMES
from lts_jax.io.console import format_table
from lts_jax.io.files import write_arrays, write_json
from tfds_refcoco import masks
from tfds_refcoco.records.split import Split


@dataclasses.dataclass(frozen=True)
class Found:
    """Scores in the order of a split's index, N sentences.

    Attributes:
      intersection: int32 `[N]`, pixels, as all below.
      union: int32 `[N]`.
      area: int32 `[N]`, of the truth.
      counts: COCO's compressed RLE of each predicted mask.
      point: int32 `[N, 2]`, column and row under the heatmap's maximum, -1 outside the image; None
        without a heatmap.
      hit: bool `[N]`, whether the point lies in the truth; None without a heatmap.
      heatmap: uint8 `[N, rounds, G, G]`, probabilities times 255 over the network's square input;
        None without a heatmap.
      curve: float by name: `threshold`, and `oiou` and `miou` when binarised there; None where
        only masks are known.
      boxes: int32 `[N, 2, 4]`, of the predicted mask and of the truth, see
        `lts_jax.evaluation.metrics.box`; None if unknown.
    """

    intersection: np.ndarray
    union: np.ndarray
    area: np.ndarray
    counts: list[str]
    point: np.ndarray | None = None
    hit: np.ndarray | None = None
    heatmap: np.ndarray | None = None
    curve: Mapping[str, list[float]] | None = None
    boxes: np.ndarray | None = None

    def scores(self, split: Split) -> bootstrap.Scores:
        """What the statistics take."""
        pointing = None if self.hit is None else metrics.hits(self.hit, self.area)
        image_id = split.index.image_id
        boxes = None if self.boxes is None else metrics.box_iou(self.boxes, self.area)
        return bootstrap.Scores(image_id, self.intersection, self.union, pointing, self.area, boxes)


def summarize(split: Split, found: Found) -> dict[str, Any]:
    """The metrics, and the numbers of `sentences` and `images`: what metrics.json holds."""
    counts = {"sentences": len(split.index.sent_id), "images": split.counts.images}
    return found.scores(split).summarize() | counts


def write(split: Split, found: Found, out_dir: Path) -> dict[str, Any]:
    """Writes metrics.json, analysis.json, predictions.json and heatmaps.npz; returns the metrics.

    analysis.json has 95 % intervals, break-downs and curves; heatmaps.npz `sent_id` int64 `[N]` and
    `heatmap` as in `Found`, and is missing where there are none.
    """
    index = split.index
    summary = summarize(split, found)
    scores = found.scores(split)
    iou = metrics.iou(found.intersection, found.union)
    at = np.linspace(0, 1, 51)
    analysis = {
        "draws": bootstrap.DRAWS,
        "intervals": bootstrap.intervals(scores),
        "breakdowns": breakdowns.break_down(index.text, breakdowns.facts(split), scores),
        "precision_curve": {
            "iou": at.round(2).tolist(),
            "share": [float((iou > x).mean()) for x in at.round(2)],
        },
        "threshold_curve": found.curve,
    }
    predictions = [
        {
            "sent_id": int(index.sent_id[row]),
            "ref_id": int(index.ref_id[row]),
            "image_id": int(index.image_id[row]),
            "sentence": index.text[row],
            "iou": float(iou[row]),
            "intersection": int(found.intersection[row]),
            "union": int(found.union[row]),
            "area": int(found.area[row]),
            **_boxes(found, scores, row),
            **_pointing(found, row),
            "segmentation": {
                "size": [int(index.height[row]), int(index.width[row])],
                "counts": found.counts[row],
            },
        }
        for row in range(len(index.sent_id))
    ]
    # run.json, written last, and heatmaps, which not every network has, would speak of older files.
    for name in ("run.json", "heatmaps.npz"):
        (out_dir / name).unlink(missing_ok=True)
    write_json(out_dir / "metrics.json", summary)
    write_json(out_dir / "analysis.json", analysis)
    write_json(out_dir / "predictions.json", predictions)
    if found.heatmap is not None:
        arrays = {"sent_id": index.sent_id, "heatmap": found.heatmap}
        write_arrays(out_dir / "heatmaps.npz", arrays)
    return summary


def _boxes(found: Found, scores: bootstrap.Scores, row: int) -> dict[str, Any]:
    """IoU of the masks' boxes; None where there is no target."""
    if scores.boxes is None:
        return {}
    return {"box_iou": float(scores.boxes[row]) if found.area[row] else None}


def _pointing(found: Found, row: int) -> dict[str, Any]:
    """Where the heatmap points, and whether that hits; None where there is nothing to hit."""
    if found.point is None or found.hit is None:
        return {}
    hit = bool(found.hit[row]) if found.area[row] else None
    return {"point": found.point[row].tolist(), "hit": hit}


def decode(segmentation: Mapping[str, Any]) -> np.ndarray:
    """Decodes a mask of predictions.json: bool `[h, w]`."""
    h, w = segmentation["size"]
    return masks.decode(segmentation["counts"].encode(), h, w) > 0


def print_results(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the metrics of each split as a table, in percent; a dash where there is none.

    Splits that have sentences without a target get a second table, of gRefCOCO's metrics.
    """

    def cells(scores: Mapping[str, Any], names: Iterable[str]) -> list[str]:
        return ["-" if scores[k] is None else f"{100 * scores[k]:.2f}" for k in names]

    rows = [
        [name, *cells(scores, METRIC_NAMES), str(scores["sentences"]), str(scores["images"])]
        for name, scores in results.items()
    ]
    print(format_table(("%", *METRIC_NAMES, "sentences", "images"), rows), flush=True)
    rows = [[k, *cells(scores, GENERALIZED)] for k, scores in results.items() if "giou" in scores]
    if rows:
        print(format_table(("gRefCOCO, %", *GENERALIZED.values()), rows), flush=True)


def print_intervals(intervals: Mapping[str, Mapping[str, Sequence[float] | None]]) -> None:
    """Prints the metrics' 95 % intervals of each split, in percent; a dash where there is none."""

    def cells(of_split: Mapping[str, Sequence[float] | None], names: Iterable[str]) -> list[str]:
        pairs = (of_split[k] for k in names)
        return ["-" if x is None else f"{100 * x[0]:.1f}-{100 * x[1]:.1f}" for x in pairs]

    rows = [[name, *cells(of_split, METRIC_NAMES)] for name, of_split in intervals.items()]
    print(format_table(("95 %", *METRIC_NAMES), rows), flush=True)
    rows = [[k, *cells(found, GENERALIZED)] for k, found in intervals.items() if "giou" in found]
    if rows:
        print(format_table(("gRefCOCO, 95 %", *GENERALIZED.values()), rows), flush=True)
