"""The report on an evaluated run: one HTML file that opens offline in any browser."""

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
    """Renders the report as HTML.

    Args:
      workdir: folder of an evaluated run.
      variant: row of the paper's tables to compare with.
      most: maximum number of sentences in the gallery; if there are more, an evenly spaced sample
        is used.
      data_dir: folder of the datasets; None uses the run's.

    Raises:
      ConfigError: no split was evaluated, or a file is invalid.
      tfds_refcoco.DataError: the data is missing.
    """
    names, missing = evaluated_splits(workdir)
    if missing:
        listed = ", ".join(missing)
        logger.warning("%s omitted from the report: the evaluation is incomplete", listed)
    evaluated = [Evaluated.read(workdir, name, data_dir) for name in names]
    run, steps = evaluated[0].run, {e.name: e.run["step"] for e in evaluated}
    if len(set(steps.values())) > 1:
        listed = ", ".join(f"{name} at step {step}" for name, step in steps.items())
        logger.warning("the splits were evaluated with different checkpoints: %s", listed)
    for e in evaluated:  # read all files first, so that damage is detected before drawing
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
        # Escape "<", which could end the script element.
        gallery=json.dumps(gallery, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _describe(failed: dict[str, int]) -> list[dict[str, Any]]:
    """Returns name, meaning and counts of each kind of failure."""
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
    """Describes the thresholds."""
    if len(at) < 2:
        return f"Pixels above {at[0]} are foreground." if at[0] else ""
    return (
        f"Pixels above a threshold are foreground: {at[0]}, and {at[1]}. The best threshold was "
        "selected during training by oIoU, on the splits of eval.best_split only."
    )


def _before_and_after(at: Sequence[str]) -> str:
    return "" if len(at) < 2 else f"In percent: at {at[0]} / at {at[1]}."
