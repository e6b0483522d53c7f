"""Charts of a report: training curves, thresholds, failures and groups."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lts_jax.errors import ConfigError
from lts_jax.evaluation import kinds, schema
from lts_jax.evaluation.failures import KINDS
from lts_jax.evaluation.results import by_role, unique_roles
from lts_jax.evaluation.saved import Evaluated
from lts_jax.experiment.thresholds import name_of
from lts_jax.io.json_files import read_json_lines
from lts_jax.reporting import charts
from lts_jax.reporting.charts import Chart, Line
from lts_jax.reporting.tables import GROUPS, NAMES

MOST_CATEGORIES = 20
_NOTES = {
    "length": "By number of words.",
    "size": "COCO's: small below 32², medium below 96² pixels.",
    "words": "Sentences with a location, colour or relation word.",
    "same_category": "Objects of the target's category in the image, including the target.",
    "category": "The most frequent categories.",
}


def of_training(workdir: Path) -> list[Chart]:
    """Charts losses and scores by step, from metrics.jsonl."""
    file = workdir / "metrics.jsonl"
    if not file.exists():
        return []
    series: dict[str, tuple[list[float], list[float]]] = {}
    entries, bad = read_json_lines(file, schema.log_line)
    if bad and bad != [len(entries) + 1]:  # a killed run may leave an incomplete last line
        raise ConfigError(f"{file}: line {bad[0]} is invalid; delete it or restore the file")
    for entry in entries:
        for name, value in entry.items():
            if name != "step":
                x, y = series.setdefault(name, ([], []))
                x.append(entry["step"])
                y.append(value)

    def curves(names: Mapping[str, str], factor: float = 1) -> list[Line]:
        return [
            Line(shown, series[name][0], [factor * y for y in series[name][1]])
            for name, shown in names.items()
            if name in series
        ]

    result = []
    losses = {n: n.removeprefix("train/") for n in series if n.startswith("train/") and "loss" in n}
    if losses:
        svg = charts.lines(curves(losses), x_label="step", y_label="loss", log=True)
        result.append(Chart("Training loss", "Summed over the pixels of a map.", svg))
    scores = {
        name: f"{split.replace('_', ' ')} {NAMES.get(metric, metric)}"
        for name in series
        for split, _, metric in [name.rpartition("/")]
        if metric in ("oiou", "miou", "pointing")
    }
    if any(len(series[name][0]) > 1 for name in scores):
        svg = charts.lines(curves(scores, 100), x_label="step", y_label="%")
        note = "On the splits that select the best checkpoint."
        result.append(Chart("Scores during training", note, svg))
    return result


def of_thresholds(evaluated: Sequence[Evaluated]) -> list[Chart]:
    """Charts precision at the scored thresholds, and oIoU by threshold."""
    precision, binarised = [], []
    for i, e in enumerate(evaluated):
        for k, (role, part) in enumerate(unique_roles(e.metrics).items()):
            curve, name = by_role(e.analysis)[role]["precision_curve"], name_of(part)
            share = [100 * y for y in curve["share"]]
            title = f"{e.name} at {part['threshold']:g}" if name else e.name
            precision.append(Line(title, curve["iou"], share, colour=i, dashed=k > 0))
        if curve := e.analysis["threshold_curve"]:
            oiou = [100 * y for y in curve["oiou"]]
            binarised.append(Line(e.name, curve["threshold"], oiou, colour=i))
    svg = charts.lines(precision, x_label="X", y_label="prec@X, %")
    result = [Chart("Precision", "Share of sentences with an IoU greater than X.", svg)]
    if binarised:
        parts = [part for e in evaluated for part in by_role(e.metrics).values()]
        marks = {part["threshold"]: name_of(part) for part in parts if "threshold" in part}
        svg = charts.lines(binarised, x_label="threshold", y_label="oIoU, %", marks=sorted(marks))
        note = "Pixels above the threshold are foreground. The metrics are computed at "
        note += " and ".join(marks[x] for x in sorted(marks)) + "."
        result.append(Chart("oIoU by threshold", note, svg))
    return result


def of_failures(evaluated: Sequence[Evaluated]) -> list[Chart]:
    """Charts the share of failures by kind."""
    rows: dict[str, dict[str, float]] = {}
    for e in evaluated:
        for role, part in unique_roles(e.metrics).items():
            counts = by_role(e.analysis)[role]["failures"]
            name = f"{e.name} at {part['threshold']:g}" if name_of(part) else e.name
            rows[name] = {k: 100 * n / e.metrics["sentences"] for k, n in counts.items()}
    shown = [kind for kind in KINDS if any(row[kind] for row in rows.values())]
    if not shown:
        return []
    svg = charts.stacked(rows, shown, x_label="% of the sentences")
    return [Chart("Failures", "Sentences whose mask has an IoU of 0.5 or less.", svg)]


def of_groups(evaluated: Sequence[Evaluated]) -> list[Chart]:
    """Charts the mIoU of groups at the first threshold."""
    result = []
    for kind, title in GROUPS.items():
        by_split = {
            e.name: {group["group"]: group for group in e.analysis["breakdowns"][kind]}
            for e in evaluated
        }
        groups = list(dict.fromkeys(name for groups in by_split.values() for name in groups))
        if kind == "category":
            most = {g: sum(s[g]["sentences"] for s in by_split.values() if g in s) for g in groups}
            groups = sorted(groups, key=lambda g: -most[g])[:MOST_CATEGORIES]
        else:
            groups = kinds.in_order(groups) if kind == "kind" else _in_order(groups, by_split)
        if groups:
            svg = charts.intervals(groups, by_split, "miou")
            at = name_of(evaluated[0].metrics)
            note = (
                f"{_NOTES.get(kind) or _of_kinds(evaluated)} mIoU{' at ' if at else ''}{at} with "
            )
            note += "95 % intervals; numbers of sentences in parentheses."
            result.append(Chart(title, note, svg))
    return result


def _of_kinds(evaluated: Sequence[Evaluated]) -> str:
    if all(e.analysis["kinds_recorded"] for e in evaluated):
        return "As recorded in the dataset."
    return "Derived from the words; a sentence may have several kinds."


def _in_order(groups: list[str], by_split: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sorts groups in their natural order, even if a split lacks some of them."""
    longest = max(by_split.values(), key=len)
    rest = [name for name in groups if name not in longest]

    def number(name: str) -> tuple[int, str]:
        first, *_ = name.split() or [""]
        return (int(first), name) if first.isdecimal() else (0, "")

    return sorted([*longest, *rest], key=number)
