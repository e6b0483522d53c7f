"""The report about an evaluated run: one HTML file, which opens offline in any browser."""

import json
import logging
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from lts_jax.data.datasets import leaks
from lts_jax.errors import ConfigError
from lts_jax.evaluation import schema
from lts_jax.evaluation.metrics import BOX_ACCURACY, GENERALIZED, METRIC_NAMES
from lts_jax.evaluation.results import by_role, name_of, unique_roles
from lts_jax.evaluation.saved import Evaluated, evaluated_splits
from lts_jax.io.json_files import read_json_lines
from lts_jax.paper import numbers
from lts_jax.reporting import charts
from lts_jax.reporting.charts import Chart, Line
from lts_jax.reporting.gallery import frequent_words, make_gallery

logger = logging.getLogger(__name__)

MOST_CATEGORIES = 20
_KINDS = {
    "length": ("Length of the sentence", "By number of words."),
    "size": ("Size of the object", "COCO's: small below 32², medium below 96² pixels."),
    "words": ("Words", "Sentences with a word of place, of colour, of relation."),
    "kind": ("Kind of expression", ""),  # see _note
    "same_category": ("Rivals", "Objects of the target's category in the image, itself included."),
    "category": ("Category", "The most frequent ones."),
}
_DASH = "\N{EN DASH}"
_IOUS = ("oiou", "miou")
_NAMES = {"oiou": "oIoU", "miou": "mIoU", BOX_ACCURACY: "Acc@0.5 of boxes", **GENERALIZED}


def make_report(workdir: Path, variant: str, most: int, data_dir: Path | None = None) -> str:
    """Makes the page.

    Args:
      workdir: of an evaluated run.
      variant: a row of the paper's tables, to stand beside.
      most: sentences in the gallery; of more, some are taken, spread evenly.
      data_dir: where the data sets lie; where the run had them if None.

    Raises:
      ConfigError: nothing was evaluated, or a file is bad.
      tfds_refcoco.DataError: the data is missing.
    """
    names, missing = evaluated_splits(workdir)
    if missing:
        listed = ", ".join(missing)
        logger.warning("not in the report: the evaluation of %s is not complete", listed)
    evaluated = [Evaluated.read(workdir, name, data_dir) for name in names]
    run, steps = evaluated[0].run, {e.name: e.run["step"] for e in evaluated}
    if len(set(steps.values())) > 1:
        listed = ", ".join(f"{name} at step {step}" for name, step in steps.items())
        logger.warning("the splits were evaluated with different checkpoints: %s", listed)
    for e in evaluated:  # what is damaged is found before anything is drawn
        _ = e.metrics, e.analysis, e.heatmaps
    all_charts = [*_training(workdir), *_curves(evaluated), *_break_downs(evaluated)]
    table, break_downs = _table(evaluated, variant), _break_down_tables(evaluated)
    gallery = make_gallery(evaluated, most)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        (resources.files("lts_jax.reporting") / "templates" / "report.html.j2").read_text(
            encoding="utf-8"
        )
    )
    return template.render(
        title=workdir.resolve().name,
        run=run,
        leaks=leaks(run["trained_on"]),
        doubts=run["trained_on"].get("doubts", []),
        steps=steps,
        missing=missing,
        table=table,
        variant=variant,
        charts=all_charts,
        break_downs=break_downs,
        config=json.dumps(run["config"], indent=1),
        words=frequent_words(evaluated, 16),
        splits=names,
        shown=len(gallery["sentences"]),
        total=gallery["total"],
        # Inside a script element: nothing may end it.
        gallery=json.dumps(gallery, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _table(evaluated: Sequence[Evaluated], variant: str) -> dict[str, Any]:
    """Our metrics with their intervals, and the paper's where it has any."""
    family = numbers.FAMILIES.get(evaluated[0].run["config"]["data"]["dataset"], "")
    rows: list[dict[str, Any]] = []
    names = list(METRIC_NAMES)
    if any("giou" in e.metrics for e in evaluated):  # a split has sentences without a target
        names += GENERALIZED
    for e in evaluated:
        intervals = by_role(e.analysis)
        for i, (role, metrics) in enumerate(unique_roles(e.metrics).items()):
            cells = []
            for name in names:
                value, span = metrics.get(name), intervals[role]["intervals"].get(name)
                shown = _DASH if value is None else f"{100 * value:.2f}"
                low_high = "" if span is None else f"{100 * span[0]:.1f}{_DASH}{100 * span[1]:.1f}"
                cells.append((shown, low_high))
            counts = f"{e.metrics['sentences']} sentences, {e.metrics['images']} images"
            threshold = name_of(metrics)
            notes = [*([f"threshold {threshold}"] if threshold else []), *([] if i else [counts])]
            rows.append({"name": e.name, "notes": notes, "cells": cells, "paper": False})
        theirs: dict[str, float] = {}
        for table, of_table in numbers.TABLES.items():
            if variant in of_table:
                theirs |= numbers.reported(table, variant, family, e.name)
        if theirs:
            theirs |= {name: theirs["iou"] for name in _IOUS}
            cells = [(f"{theirs[n]:.2f}" if n in theirs else _DASH, "") for n in names]
            rows.append({"name": "the paper", "notes": [variant], "cells": cells, "paper": True})
    header = [_NAMES.get(name, name) for name in names]
    return {"header": header, "rows": rows, "paper": any(row["paper"] for row in rows)}


def _training(workdir: Path) -> list[Chart]:
    """Losses and scores by step, as metrics.jsonl has them."""
    file = workdir / "metrics.jsonl"
    if not file.exists():
        return []
    series: dict[str, tuple[list[float], list[float]]] = {}
    entries, bad = read_json_lines(file, schema.log_line)
    if bad and bad != [len(entries) + 1]:  # a killed run may leave half of the last line
        raise ConfigError(f"{file}: line {bad[0]} holds no metrics; delete it or restore the file")
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

    found = []
    losses = {n: n.removeprefix("train/") for n in series if n.startswith("train/") and "loss" in n}
    if losses:
        svg = charts.lines(curves(losses), x_label="step", y_label="loss", log=True)
        found.append(Chart("Training loss", "Summed over the pixels of a map.", svg))
    scores = {
        name: f"{split} {_NAMES.get(metric, metric)}"
        for name in series
        for split, _, metric in [name.rpartition("/")]
        if metric in ("oiou", "miou", "pointing")
    }
    if any(len(series[name][0]) > 1 for name in scores):
        svg = charts.lines(curves(scores, 100), x_label="step", y_label="%")
        found.append(Chart("Scores during training", "Of what chooses the best checkpoint.", svg))
    return found


def _curves(evaluated: Sequence[Evaluated]) -> list[Chart]:
    precision, binarised = [], []
    for e in evaluated:
        curve = e.analysis["precision_curve"]
        precision.append(Line(e.name, curve["iou"], [100 * y for y in curve["share"]]))
        if curve := e.analysis["threshold_curve"]:
            binarised.append(Line(e.name, curve["threshold"], [100 * y for y in curve["oiou"]]))
    svg = charts.lines(precision, x_label="X", y_label="prec@X, %")
    found = [Chart("Precision", "Share of sentences with an IoU greater than X.", svg)]
    if binarised:
        parts = [part for e in evaluated for part in by_role(e.metrics).values()]
        marks = {part["threshold"]: name_of(part) for part in parts if "threshold" in part}
        svg = charts.lines(binarised, x_label="threshold", y_label="oIoU, %", marks=sorted(marks))
        note = "A pixel above the threshold is foreground. The metrics are those at "
        note += " and ".join(marks[x] for x in sorted(marks)) + "."
        found.append(Chart("oIoU by threshold", note, svg))
    return found


def _break_downs(evaluated: Sequence[Evaluated]) -> list[Chart]:
    found = []
    for kind, (title, note) in _KINDS.items():
        by_split = {
            e.name: {group["group"]: group for group in e.analysis["breakdowns"][kind]}
            for e in evaluated
        }
        groups = list(dict.fromkeys(name for groups in by_split.values() for name in groups))
        if kind == "category":
            most = {g: sum(s[g]["sentences"] for s in by_split.values() if g in s) for g in groups}
            groups = sorted(groups, key=lambda g: -most[g])[:MOST_CATEGORIES]
        else:
            groups = _in_order(groups, by_split)
        if groups:
            svg = charts.intervals(groups, by_split, "miou")
            note = note or _of_kinds(evaluated)
            note += " mIoU with 95 % intervals; numbers of sentences in brackets."
            found.append(Chart(title, note, svg))
    return found


def _of_kinds(evaluated: Sequence[Evaluated]) -> str:
    if all(e.analysis["kinds_recorded"] for e in evaluated):
        return "As the data set records it."
    return "By its words, so that a sentence may be of several kinds."


def _in_order(groups: list[str], by_split: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Keeps the groups' own order where a split lacks some of them."""
    longest = max(by_split.values(), key=len)
    rest = [name for name in groups if name not in longest]

    def number(name: str) -> tuple[int, str]:
        first, *_ = name.split() or [""]
        return (int(first), name) if first.isdecimal() else (0, "")

    return sorted([*longest, *rest], key=number)


def _break_down_tables(evaluated: Sequence[Evaluated]) -> list[dict[str, Any]]:
    shown = ("oiou", "miou", "prec@0.5", "pointing")
    return [
        {
            "title": title,
            "rows": [
                [
                    e.name,
                    group["group"],
                    group["sentences"],
                    *(_DASH if group[m] is None else f"{100 * group[m]:.1f}" for m in shown),
                ]
                for e in evaluated
                for group in e.analysis["breakdowns"][kind]
            ],
        }
        for kind, (title, _) in _KINDS.items()
        if any(e.analysis["breakdowns"][kind] for e in evaluated)
    ]
