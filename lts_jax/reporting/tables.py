"""Tables of a report: scores, failures and metrics of groups, at every scored threshold."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from lts_jax.evaluation.failures import KINDS
from lts_jax.evaluation.metrics import BOX_ACCURACY, GENERALIZED, METRIC_NAMES
from lts_jax.evaluation.results import by_role, unique_roles
from lts_jax.evaluation.saved import Evaluated
from lts_jax.experiment.thresholds import name_of
from lts_jax.paper import numbers

GROUPS = {
    "kind": "Kind of expression",
    "length": "Length of the sentence",
    "size": "Size of the object",
    "words": "Words",
    "same_category": "Objects of the same category",
    "category": "Category",
}
"""Titles of the breakdowns, in display order."""
NAMES = {"oiou": "oIoU", "miou": "mIoU", BOX_ACCURACY: "Acc@0.5 of boxes", **GENERALIZED}
_DASH = "\N{EN DASH}"
_IOUS = ("oiou", "miou")
_OF_GROUPS = ("oiou", "miou", "prec@0.5", "pointing")


class Cell(NamedTuple):
    """A table cell: a number, a note below it, and a link."""

    text: str
    note: str = ""
    link: str = ""


class Row(NamedTuple):
    """A row of a table; `paper` marks the paper's numbers."""

    name: str
    notes: Sequence[str]
    cells: Sequence[Cell]
    paper: bool = False


class Table(NamedTuple):
    """A table; the header includes the first column."""

    header: Sequence[str]
    rows: Sequence[Row]
    title: str = ""
    id: str = ""

    @property
    def paper(self) -> bool:
        """Whether the table has a row with the paper's numbers."""
        return any(row.paper for row in self.rows)


def scores(evaluated: Sequence[Evaluated], variant: str) -> Table:
    """Tabulates our metrics with intervals, and the paper's numbers if it reports any."""
    family = numbers.FAMILIES.get(evaluated[0].run["config"]["data"]["dataset"], "")
    rows: list[Row] = []
    names = list(METRIC_NAMES)
    if any("giou" in e.metrics for e in evaluated):  # a split has sentences without a target
        names += GENERALIZED
    for e in evaluated:
        intervals = by_role(e.analysis)
        for i, (role, metrics) in enumerate(unique_roles(e.metrics).items()):
            spans = intervals[role]["intervals"]
            counts = f"{e.metrics['sentences']} sentences, {e.metrics['images']} images"
            notes = [*_threshold(metrics), *([] if i else [counts])]
            cells = [_percent(metrics.get(name), spans.get(name)) for name in names]
            rows.append(Row(e.name, notes, cells))
        theirs: dict[str, float] = {}
        for table, of_table in numbers.TABLES.items():
            if variant in of_table:
                theirs |= numbers.reported(table, variant, family, e.name)
        if theirs:
            theirs |= {name: theirs["iou"] for name in _IOUS}
            cells = [Cell(f"{theirs[n]:.2f}" if n in theirs else _DASH) for n in names]
            rows.append(Row("the paper", [variant], cells, paper=True))
    return Table(["%", *(NAMES.get(name, name) for name in names)], rows, id="scores")


def failures(evaluated: Sequence[Evaluated], shown: Sequence[str]) -> Table:
    """Tabulates the failures by kind; each number links to its sentences.

    Args:
      evaluated: the evaluated splits.
      shown: the kinds that occur.
    """
    rows = []
    for e in evaluated:
        analyses = by_role(e.analysis)
        for at, role in enumerate(unique_roles(e.metrics)):
            counts, sentences = analyses[role]["failures"], e.metrics["sentences"]
            view = {"split": e.name} | ({"at": str(at)} if at else {})
            cells = [Cell(str(sum(counts.values())), link=_link(view | {"failure": "any"}))]
            cells.append(Cell(f"{100 * sum(counts.values()) / sentences:.1f}"))
            cells += [
                Cell(str(counts[kind]), link=_link(view | {"failure": kind})) for kind in shown
            ]
            rows.append(Row(e.name, _threshold(analyses[role]), cells))
    return Table(["split", "failures", "% of sentences", *shown], rows)


def kinds_of_failures(evaluated: Sequence[Evaluated]) -> dict[str, int]:
    """Returns the kinds of failures that occur at any threshold.

    The counts are those of all splits at the page's first threshold.
    """
    counts = [[part["failures"] for part in by_role(e.analysis).values()] for e in evaluated]
    return {
        kind: sum(of_split[0][kind] for of_split in counts)
        for kind in KINDS
        if any(of_threshold[kind] for of_split in counts for of_threshold in of_split)
    }


def groups(evaluated: Sequence[Evaluated]) -> list[Table]:
    """Tabulates the metrics of groups at the first and, after a slash, the second threshold."""
    tables = []
    for kind, title in GROUPS.items():
        rows = []
        for e in evaluated:
            parts = [by_role(e.analysis)[role] for role in unique_roles(e.metrics)]
            for of_thresholds in zip(*(part["breakdowns"][kind] for part in parts), strict=True):
                first = of_thresholds[0]
                cells = [Cell(str(first["sentences"]))]
                cells += [Cell(_both(of_thresholds, name)) for name in _OF_GROUPS]
                rows.append(Row(first["group"], [e.name], cells))
        if rows:
            header = ["group", "sentences", *(NAMES.get(name, name) for name in _OF_GROUPS)]
            tables.append(Table(header, rows, title))
    return tables


def _both(of_thresholds: Sequence[Mapping[str, Any]], name: str) -> str:
    shown = [_DASH if x[name] is None else f"{100 * x[name]:.1f}" for x in of_thresholds]
    return " / ".join(dict.fromkeys(shown) if name == "pointing" else shown)


def _threshold(part: Mapping[str, Any]) -> list[str]:
    name = name_of(part)
    return [f"threshold {name}"] if name else []


def _percent(value: float | None, span: Sequence[float] | None) -> Cell:
    shown = _DASH if value is None else f"{100 * value:.2f}"
    return Cell(shown, "" if span is None else f"{100 * span[0]:.1f}{_DASH}{100 * span[1]:.1f}")


def _link(view: Mapping[str, str]) -> str:
    """Returns the URL fragment of a gallery view, in the format of report.js."""
    return f"#{urlencode(view)}"
