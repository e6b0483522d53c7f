"""The results of an evaluation, and the files that contain them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lts_jax.evaluation import bootstrap, breakdowns, failures, metrics
from lts_jax.evaluation.metrics import GENERALIZED, METRIC_NAMES
from lts_jax.experiment import thresholds
from lts_jax.experiment.thresholds import Threshold, name_of
from lts_jax.io.console import format_table
from lts_jax.io.files import write_arrays, write_json
from tfds_refcoco import masks
from tfds_refcoco.records.split import Split

_COUNTS = ("sentences", "images")


@dataclasses.dataclass(frozen=True)
class SplitResults:
    """Results for the N sentences of a split, in the order of its index.

    Attributes:
      intersection: int32 `[N]`, pixels.
      union: int32 `[N]`, pixels.
      area: int32 `[N]`, pixels of the ground truth.
      counts: COCO's compressed RLE of each predicted mask.
      point: int32 `[N, 2]`, column and row of the heatmap's maximum in pixels, -1 outside the
        image; None without a heatmap.
      hit: bool `[N]`, whether the point is inside the ground truth; None without a heatmap.
      heatmap: uint8 `[N, rounds, G, G]`, probabilities times 255 over the network's square input;
        None without a heatmap.
      curve: lists of `threshold`, and `oiou` and `miou` of the masks at these thresholds; None if
        the probabilities are unknown.
      boxes: int32 `[N, 2, 4]`, of the predicted mask and the ground truth, see
        `lts_jax.evaluation.metrics.box`; None if unknown.
      threshold: of the masks; None if unknown.
      other: the results at a second threshold, or None.
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
    threshold: Threshold | None = None
    other: "SplitResults | None" = None

    def scores(self, split: Split) -> bootstrap.Scores:
        """Returns the scores for metrics and statistics."""
        pointing = None if self.hit is None else metrics.hits(self.hit, self.area)
        image_id = split.index.image_id
        boxes = None if self.boxes is None else metrics.box_iou(self.boxes, self.area)
        return bootstrap.Scores(image_id, self.intersection, self.union, pointing, self.area, boxes)


def summarize(split: Split, scored: SplitResults) -> dict[str, Any]:
    """Returns the content of metrics.json: metrics, `sentences`, `images`, and the threshold.

    `other` contains metrics and threshold of the second threshold, if there is one.
    """
    summary: dict[str, Any] = dict(scored.scores(split).summarize())
    summary |= {"sentences": len(split.index.sent_id), "images": split.counts.images}
    if scored.threshold is not None:
        summary |= thresholds.describe(scored.threshold)
    if scored.other is not None and scored.other.threshold is not None:
        metrics = dict(scored.other.scores(split).summarize())
        summary["other"] = metrics | thresholds.describe(scored.other.threshold)
    return summary


def by_role(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the parts of a file by the role of their threshold.

    Args:
      summary: content of metrics.json, or another mapping with `other` for the second threshold.

    Returns:
      "number" for the threshold in the config, and "val" for the best threshold on val. Both are
      the same part if the thresholds are equal. A role is missing if its threshold is unknown.
    """
    parts = [summary, *([summary["other"]] if "other" in summary else [])]
    roles = {"val" if part.get("chosen_on") else "number": part for part in parts}
    if "number" not in roles:
        roles["number"] = roles["val"]
    return {role: roles[role] for role in ("number", "val") if role in roles}


def unique_roles(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns `by_role` without "val" if both roles are the same part."""
    roles = by_role(summary)
    same = len(roles) == 2 and roles["number"] is roles["val"]
    return {"number": roles["number"]} if same else roles


def write(split: Split, scored: SplitResults, out_dir: Path) -> dict[str, Any]:
    """Writes metrics.json, analysis.json, predictions.json and heatmaps.npz; returns the metrics.

    analysis.json contains curves and, for each threshold, 95 % intervals, breakdowns and failure
    counts. heatmaps.npz contains `sent_id` int64 `[N]` and `heatmap` as in `SplitResults`; without
    heatmaps it is not written.
    """
    index = split.index
    summary = summarize(split, scored)
    analysis: dict[str, Any] = {
        "draws": bootstrap.DRAWS,
        "kinds_recorded": any(index.kind),
        **_analyse(split, scored),
        "threshold_curve": scored.curve,
    }
    if scored.other is not None:
        analysis["other"] = _analyse(split, scored.other)
    masks_used, masks_other = _masks(split, scored), scored.other and _masks(split, scored.other)
    predictions = [
        {
            "sent_id": int(index.sent_id[row]),
            "ref_id": int(index.ref_id[row]),
            "image_id": int(index.image_id[row]),
            "sentence": index.text[row],
            "kind": index.kind[row],
            "area": int(scored.area[row]),
            **_pointing(scored, row),
            **masks_used[row],
            **({"other": masks_other[row]} if masks_other else {}),
        }
        for row in range(len(index.sent_id))
    ]
    # An older run.json would mark unfinished results as complete; older heatmaps may not match.
    for name in ("run.json", "heatmaps.npz"):
        (out_dir / name).unlink(missing_ok=True)
    write_json(out_dir / "metrics.json", summary)
    write_json(out_dir / "analysis.json", analysis)
    write_json(out_dir / "predictions.json", predictions)
    if scored.heatmap is not None:
        arrays = {"sent_id": index.sent_id, "heatmap": scored.heatmap}
        write_arrays(out_dir / "heatmaps.npz", arrays)
    return summary


def _analyse(split: Split, scored: SplitResults) -> dict[str, Any]:
    """Returns the part of analysis.json for one threshold."""
    scores = scored.scores(split)
    described = {} if scored.threshold is None else thresholds.describe(scored.threshold)
    iou = metrics.iou(scored.intersection, scored.union)
    at = np.linspace(0, 1, 51).round(2).tolist()
    failed = failures.kinds(scored.intersection, scored.union, scored.area)
    return described | {
        "intervals": bootstrap.intervals(scores),
        "failures": failures.count(failed),
        "precision_curve": {"iou": at, "share": [float((iou > x).mean()) for x in at]},
        "breakdowns": breakdowns.break_down(split.index.text, breakdowns.facts(split), scores),
    }


def _masks(split: Split, scored: SplitResults) -> list[dict[str, Any]]:
    """Returns the mask of each sentence and its scores."""
    index = split.index
    columns: dict[str, list[Any]] = {
        "iou": metrics.iou(scored.intersection, scored.union).tolist(),
        "intersection": scored.intersection.tolist(),
        "union": scored.union.tolist(),
        "failure": failures.kinds(scored.intersection, scored.union, scored.area).tolist(),
    }
    if scored.boxes is not None:  # without a target, box_iou is None
        of_boxes = metrics.box_iou(scored.boxes, scored.area)
        columns["box_iou"] = [None if np.isnan(x) else x for x in of_boxes.tolist()]
    columns["segmentation"] = [
        {"size": [int(h), int(w)], "counts": counts}
        for h, w, counts in zip(index.height, index.width, scored.counts, strict=True)
    ]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _pointing(scored: SplitResults, row: int) -> dict[str, Any]:
    """Returns the heatmap's `point` and `hit`; `hit` is None without a target."""
    if scored.point is None or scored.hit is None:
        return {}
    hit = bool(scored.hit[row]) if scored.area[row] else None
    return {"point": scored.point[row].tolist(), "hit": hit}


def decode(segmentation: Mapping[str, Any]) -> np.ndarray:
    """Decodes a mask of predictions.json: bool `[h, w]`."""
    h, w = segmentation["size"]
    return masks.decode(segmentation["counts"].encode(), h, w) > 0


def print_results(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the metrics of each split as a table, in percent; a dash if undefined.

    A split has a row for each threshold. A second table has gRefCOCO's metrics for splits that have
    sentences without a target.
    """
    rows = {
        where: {**part, **{key: summary[key] for key in _COUNTS}}
        for name, summary in results.items()
        for where, part in _named(name, summary).items()
    }
    _print_tables("%", (*METRIC_NAMES, *_COUNTS), rows, _percent)


def print_intervals(analyses: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the 95 % intervals of the metrics of each split, in percent; a dash if undefined.

    Args:
      analyses: content of analysis.json by split.
    """
    rows = {
        where: part["intervals"]
        for name, analysis in analyses.items()
        for where, part in _named(name, analysis).items()
    }
    _print_tables("95 %", METRIC_NAMES, rows, lambda x: f"{100 * x[0]:.1f}-{100 * x[1]:.1f}")


def _percent(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{100 * value:.2f}"


def _print_tables(
    unit: str,
    names: Sequence[str],
    rows: Mapping[str, Mapping[str, Any]],
    cell: Callable[[Any], str],
) -> None:
    def print_table(corner: str, columns: Mapping[str, str], rows: Mapping[str, Any]) -> None:
        lines = [
            [where, *("-" if of[k] is None else cell(of[k]) for k in columns)]
            for where, of in rows.items()
        ]
        print(format_table((corner, *columns.values()), lines), flush=True)

    print_table(unit, {name: name for name in names}, rows)
    if generalized := {where: of for where, of in rows.items() if "giou" in of}:
        print_table(f"gRefCOCO, {unit}", GENERALIZED, generalized)


def _named(split: str, summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the parts of a split's file by split and threshold, as named in tables."""
    parts = {name_of(part): part for part in unique_roles(summary).values()}
    return {f"{split} at {name}" if name else split: part for name, part in parts.items()}
