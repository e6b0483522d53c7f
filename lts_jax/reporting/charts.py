"""Charts of a report, drawn with matplotlib and embedded as SVG."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.legend import Legend

# Colourblind-safe (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLE: Any = {  # matplotlib types the keys one by one
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "lts_jax",  # reproducible files
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # a category name may contain $
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "axes.edgecolor": "#9aa3ad",
    "legend.frameon": False,
}
_LONGEST = 30  # characters of a group's name
_WIDTH = 4.2  # inches; fits a phone without shrinking the text


class Line(NamedTuple):
    """A named curve; `colour` is an index into `COLOURS`, or -1 for the curve's position."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = -1
    dashed: bool = False


class Chart(NamedTuple):
    """A chart with a title and a one-sentence description."""

    title: str
    note: str
    svg: str


def lines(
    curves: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    marks: Sequence[float] = (),
    log: bool = False,
) -> str:
    """Draws curves, with dashed vertical lines at `marks`, values of x."""
    with mpl.style.context(("default", _STYLE)):  # ignore the user's matplotlibrc
        figure = Figure((_WIDTH, 2.9), layout="constrained")
        axes = figure.subplots()
        for i, curve in enumerate(curves):
            number = i if curve.colour < 0 else curve.colour
            colour = COLOURS[number % len(COLOURS)]
            style = "--" if curve.dashed or number >= len(COLOURS) else "-"
            marker = "o" if len(curve.x) < 25 else ""
            (drawn,) = axes.plot(curve.x, curve.y, color=colour, ls=style, lw=1.5)
            drawn.set(label=curve.name, marker=marker, markersize=3)
        for mark in marks:
            axes.axvline(mark, color="#5b6570", ls="--", lw=1)
            axes.annotate(
                f"{mark:g}",
                (mark, 0),
                (3, 3),
                ("data", "axes fraction"),
                textcoords="offset points",
                color="#5b6570",
            )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")  # the default formatter uses math text
            axes.yaxis.set_minor_formatter("")
        if len(curves) > 3:
            _plain(figure.legend(loc="outside lower center", ncols=2))
        elif len(curves) > 1:
            _plain(axes.legend())
        return _svg(figure)


def intervals(
    groups: Sequence[str], by_split: Mapping[str, Mapping[str, Mapping[str, Any]]], metric: str
) -> str:
    """Draws a metric per group, with 95 % intervals and numbers of sentences.

    Args:
      groups: names, from the top.
      by_split: results of `lts_jax.evaluation.breakdowns.break_down` by split and group.
      metric: name of a metric, such as "miou".
    """
    with mpl.style.context(("default", _STYLE)):  # ignore the user's matplotlibrc
        n = len(by_split)
        figure = Figure((_WIDTH, 0.9 + len(groups) * (0.16 + 0.14 * n)), layout="constrained")
        axes = figure.subplots()
        for i, (split, of_split) in enumerate(by_split.items()):
            shown = [(k, of_split[name]) for k, name in enumerate(groups) if name in of_split]
            values = [100 * group[metric] for _, group in shown]
            spans = [group["intervals"][metric] for _, group in shown]
            y = [k + (i - (n - 1) / 2) * 0.7 / n for k, _ in shown]
            errors = [
                [max(0.0, v - 100 * low) for v, (low, _) in zip(values, spans, strict=True)],
                [max(0.0, 100 * high - v) for v, (_, high) in zip(values, spans, strict=True)],
            ]
            colour = COLOURS[i % len(COLOURS)]
            marker = "o" if i < len(COLOURS) else "s"
            axes.errorbar(
                values, y, xerr=errors, fmt=marker, ms=4, lw=1.3, color=colour, label=split
            )
        counts = [
            " · ".join(str(f[name]["sentences"]) if name in f else "0" for f in by_split.values())
            for name in groups
        ]
        shown_names = [_shortened(name) for name in groups]
        labels = [
            name
            if n > 3  # too many numbers for a label
            else f"{name}\n({count})"
            if n > 1 and len(name) > 9
            else f"{name} ({count})"
            for name, count in zip(shown_names, counts, strict=True)
        ]
        axes.set_yticks(range(len(groups)), labels, parse_math=False)
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.set_xlabel("mIoU, %" if metric == "miou" else metric)
        if n > 1:
            _plain(figure.legend(loc="outside lower center", ncols=min(n, 2)))
        return _svg(figure)


def stacked(rows: Mapping[str, Mapping[str, float]], parts: Sequence[str], *, x_label: str) -> str:
    """Draws stacked horizontal bars.

    Args:
      rows: lengths of the parts, by row name and part.
      parts: names of the parts, from left to right.
      x_label: label of the lengths.
    """
    with mpl.style.context(("default", _STYLE)):  # ignore the user's matplotlibrc
        figure = Figure((_WIDTH, 1.3 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        start = [0.0] * len(rows)
        for i, part in enumerate(parts):
            lengths = [row[part] for row in rows.values()]
            colour = COLOURS[i % len(COLOURS)]
            axes.barh(range(len(rows)), lengths, 0.7, left=start, color=colour, label=part)
            start = [a + b for a, b in zip(start, lengths, strict=True)]
        axes.set_yticks(range(len(rows)), [_shortened(name) for name in rows], parse_math=False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(x_label)
        _plain(figure.legend(loc="outside lower center", ncols=2))
        return _svg(figure)


def _shortened(name: str) -> str:
    """Shortens a group's name: category names may be long or contain line breaks."""
    name = "".join(c if c.isprintable() else " " for c in name)
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _plain(legend: Legend) -> None:
    """Disables math text, so that a `$` in a name is drawn literally."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    with warnings.catch_warnings():
        # The text is rendered by the browser, which has the glyphs.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(
            out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    svg = out.getvalue()
    return svg[svg.index("<svg") :]
