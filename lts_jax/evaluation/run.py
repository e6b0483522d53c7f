"""Evaluates checkpoints of a run."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from lts_jax.config.compatibility import shared_values
from lts_jax.data.datasets import warn_of_leaks
from lts_jax.distributed.mesh import make_mesh
from lts_jax.distributed.processes import check_same_on_all, check_shared, in_first_process
from lts_jax.evaluation.evaluator import Evaluator
from lts_jax.evaluation.results import print_intervals, print_results
from lts_jax.evaluation.schema import AGAIN, ANALYSIS
from lts_jax.experiment.restore import restore
from lts_jax.io.files import check_inside, only_run_in, write_json
from lts_jax.io.json_files import read_json

logger = logging.getLogger(__name__)

Results = dict[str, dict[str, Any]]


def evaluate(config: ConfigDict | None, workdir: Path, step: int | None = None) -> Results:
    """Evaluates a checkpoint on `config.eval.splits` and prints the results as tables.

    Writes the files of `Evaluator.report` and run.json to `<workdir>/eval/<split>/`, or to
    `<workdir>/step<N>/eval/<split>/` if `step` is set. Several processes share the work.

    Args:
      config: of the evaluation; None uses the checkpoint's config.
      workdir: of the run.
      step: of the checkpoint; None selects the best readable one.

    Returns:
      The metrics by split, as in metrics.json.

    Raises:
      ConfigError: the workdir has no such checkpoint, the config describes another network, or
        another evaluation is writing to the same folder.
      tfds_refcoco.DataError: the data is missing or invalid.
    """
    trained = restore(workdir, make_mesh(jax.local_devices()), step, config)
    experiment = trained.experiment
    settings = experiment.config.eval
    splits = {name: experiment.dataset.split(name) for name in settings.splits}
    best_split = trained.config["eval"]["best_split"]
    which = f"the best on {best_split}" if step is None else "selected with --checkpoint"
    first = jax.process_index() == 0
    if first:
        logger.info("evaluating step %d, %s", trained.step, which)
    results, analyses = {}, {}
    for name, split in splits.items():
        out_dir = (workdir if step is None else workdir / f"step{step}") / "eval" / name
        check_inside(workdir, out_dir)
        run = experiment.describe(split, trained.weights)
        run |= {"step": trained.step, "trained_on": trained.data}
        restored = {"step": trained.step, "best_threshold": experiment.best_threshold}
        check_same_on_all(restored | shared_values(run))
        with only_run_of_all_in(out_dir):
            evaluator = Evaluator.from_experiment(experiment, split)
            results[name] = evaluator.report(trained.state, out_dir, settings.gallery)
            if first:
                write_json(out_dir / "run.json", run)
                logger.info("wrote %s", out_dir)
                path = out_dir / "analysis.json"
                analyses[name] = read_json(path, ANALYSIS, AGAIN)
    if first:
        print_results(results)
        print_intervals(analyses)
        warn_of_leaks(trained.data)
    return results


@contextlib.contextmanager
def only_run_of_all_in(folder: Path) -> Iterator[None]:
    """Locks a folder that all processes share; see `lts_jax.io.files.only_run_in`."""
    with in_first_process(only_run_in(folder)):
        check_shared(folder)
        yield
