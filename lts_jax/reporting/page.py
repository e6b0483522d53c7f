"""The report about an evaluated run: one HTML file, which opens offline in any browser."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from lts_jax.data.datasets import leaks
from lts_jax.evaluation.failures import KINDS, MEANINGS
from lts_jax.evaluation.saved import Evaluated, evaluated_splits
from lts_jax.reporting import run_charts, tables
from lts_jax.reporting.gallery import COLUMNS, frequent_words, make_gallery, thresholds

logger = logging.getLogger(__name__)


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
    charts = [
        *run_charts.of_training(workdir),
        *run_charts.of_thresholds(evaluated),
        *run_charts.of_failures(evaluated),
        *run_charts.of_groups(evaluated),
    ]
    at = list(thresholds(evaluated).values())
    failed = tables.kinds_of_failures(evaluated)
    scores, failures = tables.scores(evaluated, variant), tables.failures(evaluated, list(failed))
    break_downs = tables.groups(evaluated)
    gallery = make_gallery(evaluated, most)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lts_jax.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(
        title=workdir.resolve().name,
        run=run,
        leaks=leaks(run["trained_on"]),
        doubts=run["trained_on"].get("doubts", []),
        steps=steps,
        missing=missing,
        scores=scores,
        thresholds_note=_explain(at),
        failures=failures,
        failure_kinds=_describe(failed),
        threshold=at[0],
        charts=charts,
        break_downs=break_downs,
        break_down_note=_before_and_after(at),
        config=json.dumps(run["config"], indent=1),
        words=frequent_words(evaluated, 16),
        splits=names,
        thresholds=at,
        kinds=gallery["kinds"],
        shown=len(gallery["sentences"]),
        total=gallery["total"],
        columns=COLUMNS,
        # Inside a script element: nothing may end it.
        gallery=json.dumps(gallery, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _describe(failed: dict[str, int]) -> list[dict[str, Any]]:
    """What the page says of each kind of failure."""
    total = sum(failed.values())
    return [
        {
            "name": kind,
            "meaning": MEANINGS[kind],
            "count": count,
            "failed": total,
            "number": KINDS.index(kind),
        }
        for kind, count in failed.items()
    ]


def _explain(at: Sequence[str]) -> str:
    """Says what the thresholds are."""
    if len(at) < 2:
        return f"Masks are the pixels above {at[0]}." if at[0] else ""
    return (
        f"Masks are the pixels above a threshold: {at[0]}, and {at[1]}. The best one was chosen in "
        "training, by oIoU, and never on another split."
    )


def _before_and_after(at: Sequence[str]) -> str:
    return "" if len(at) < 2 else f"Before the slash at {at[0]}, after it at {at[1]}. Percent."
