"""What an evaluation has found of every sentence, and its files."""

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
      threshold: by which the masks were made; None if unknown.
      other: the same sentences at a second threshold, or None.
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
    other: "Found | None" = None

    def scores(self, split: Split) -> bootstrap.Scores:
        """What the statistics take."""
        pointing = None if self.hit is None else metrics.hits(self.hit, self.area)
        image_id = split.index.image_id
        boxes = None if self.boxes is None else metrics.box_iou(self.boxes, self.area)
        return bootstrap.Scores(image_id, self.intersection, self.union, pointing, self.area, boxes)


def summarize(split: Split, found: Found) -> dict[str, Any]:
    """What metrics.json holds: the metrics, the numbers of `sentences` and `images`, the threshold.

    `other` has metrics and threshold of a second one, if there is one.
    """
    summary: dict[str, Any] = dict(found.scores(split).summarize())
    summary |= {"sentences": len(split.index.sent_id), "images": split.counts.images}
    if found.threshold is not None:
        summary |= thresholds.describe(found.threshold)
    if found.other is not None and found.other.threshold is not None:
        metrics = dict(found.other.scores(split).summarize())
        summary["other"] = metrics | thresholds.describe(found.other.threshold)
    return summary


def by_role(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the parts of a file that are of one threshold each.

    Args:
      summary: what metrics.json holds, or a mapping whose `other` is of the second threshold.

    Returns:
      As "number" what is at the number in the config, and as "val" what is at the threshold that
      is best on val, the same if that is the number; one of them if the other is unknown.
    """
    parts = [summary, *([summary["other"]] if "other" in summary else [])]
    roles = {"val" if part.get("chosen_on") else "number": part for part in parts}
    if "number" not in roles:
        roles["number"] = roles["val"]
    return {role: roles[role] for role in ("number", "val") if role in roles}


def unique_roles(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """As `by_role`, without "val" where both are the same part."""
    roles = by_role(summary)
    same = len(roles) == 2 and roles["number"] is roles["val"]
    return {"number": roles["number"]} if same else roles


def write(split: Split, found: Found, out_dir: Path) -> dict[str, Any]:
    """Writes metrics.json, analysis.json, predictions.json and heatmaps.npz; returns the metrics.

    analysis.json has 95 % intervals, break-downs and counts of failures, of each threshold, and
    curves; heatmaps.npz has `sent_id` int64 `[N]` and `heatmap` as in `Found`, and is missing where
    there are none.
    """
    index = split.index
    summary = summarize(split, found)
    analysis: dict[str, Any] = {
        "draws": bootstrap.DRAWS,
        "kinds_recorded": any(index.kind),
        **_analyse(split, found),
        "threshold_curve": found.curve,
    }
    if found.other is not None:
        analysis["other"] = _analyse(split, found.other)
    masks_used, masks_other = _masks(split, found), found.other and _masks(split, found.other)
    predictions = [
        {
            "sent_id": int(index.sent_id[row]),
            "ref_id": int(index.ref_id[row]),
            "image_id": int(index.image_id[row]),
            "sentence": index.text[row],
            "kind": index.kind[row],
            "area": int(found.area[row]),
            **_pointing(found, row),
            **masks_used[row],
            **({"other": masks_other[row]} if masks_other else {}),
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


def _analyse(split: Split, found: Found) -> dict[str, Any]:
    """What analysis.json has for each threshold."""
    scores = found.scores(split)
    described = {} if found.threshold is None else thresholds.describe(found.threshold)
    iou = metrics.iou(found.intersection, found.union)
    at = np.linspace(0, 1, 51).round(2).tolist()
    failed = failures.kinds(found.intersection, found.union, found.area)
    return described | {
        "intervals": bootstrap.intervals(scores),
        "failures": failures.count(failed),
        "precision_curve": {"iou": at, "share": [float((iou > x).mean()) for x in at]},
        "breakdowns": breakdowns.break_down(split.index.text, breakdowns.facts(split), scores),
    }


def _masks(split: Split, found: Found) -> list[dict[str, Any]]:
    """The mask of each sentence, and what it scores."""
    index = split.index
    columns: dict[str, list[Any]] = {
        "iou": metrics.iou(found.intersection, found.union).tolist(),
        "intersection": found.intersection.tolist(),
        "union": found.union.tolist(),
        "failure": failures.kinds(found.intersection, found.union, found.area).tolist(),
    }
    if found.boxes is not None:  # None where there is no target
        of_boxes = metrics.box_iou(found.boxes, found.area)
        columns["box_iou"] = [None if np.isnan(x) else x for x in of_boxes.tolist()]
    columns["segmentation"] = [
        {"size": [int(h), int(w)], "counts": counts}
        for h, w, counts in zip(index.height, index.width, found.counts, strict=True)
    ]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


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

    A split has a row for each threshold. Splits that have sentences without a target get a second
    table, of gRefCOCO's metrics.
    """
    rows = {
        where: {**part, **{key: summary[key] for key in _COUNTS}}
        for name, summary in results.items()
        for where, part in _named(name, summary).items()
    }
    _print_tables("%", (*METRIC_NAMES, *_COUNTS), rows, _percent)


def print_intervals(analyses: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the metrics' 95 % intervals of each split, in percent; a dash where there is none.

    Args:
      analyses: by split what analysis.json holds.
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
    """The parts of a split's file by the names of split and threshold."""
    parts = {name_of(part): part for part in unique_roles(summary).values()}
    return {f"{split} at {name}" if name else split: part for name, part in parts.items()}
