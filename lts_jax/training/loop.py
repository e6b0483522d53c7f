"""The training loop."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from lts_jax.config.compatibility import shared_values
from lts_jax.data.datasets import describe_joint
from lts_jax.distributed.mesh import local_copy, put_batch
from lts_jax.distributed.processes import check_same_on_all
from lts_jax.errors import Stopped
from lts_jax.evaluation.evaluator import Evaluator
from lts_jax.evaluation.metrics import GENERALIZED, METRIC_NAMES
from lts_jax.evaluation.run import Results, evaluate, only_run_of_all_in
from lts_jax.experiment import thresholds
from lts_jax.experiment.arithmetic import warn_if_changed
from lts_jax.experiment.experiment import Experiment
from lts_jax.io.files import write_json
from lts_jax.state.checkpoint_files import BEST_METRIC, check_path
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.state.train_state import TrainState
from lts_jax.training.divergence import LossGuard
from lts_jax.training.feature_cache import FeatureCache
from lts_jax.training.logs import MetricWriter, Progress, open_writer, show_pictures
from lts_jax.training.preemption import Pace, Stop
from lts_jax.training.setup import log_setup, restore_or_initialize

logger = logging.getLogger(__name__)


def train_and_evaluate(config: ConfigDict, workdir: Path, stop: Stop | None = None) -> Results:
    """Trains, resuming from the workdir's latest checkpoint, and evaluates the best one.

    Args:
      config: the run's config.
      workdir: the run's folder.
      stop: watches for stop requests; with None, training runs to the end.

    Returns:
      The metrics of each of `config.eval.splits`.

    Raises:
      ConfigError: the config is invalid or does not match the devices, the data or the workdir.
      tfds_refcoco.DataError: the data is missing or invalid.
      NonFiniteLossError: the training has diverged; earlier checkpoints are kept.
      SaveError: a checkpoint could not be written; earlier ones are kept.
      Stopped: a stop was requested; a checkpoint was saved.
    """
    train(config, workdir, stop)
    results = evaluate(config, workdir)
    show_pictures(workdir, results)
    return results


def train(config: ConfigDict, workdir: Path, stop: Stop | None = None) -> None:
    """Trains up to `config.train.epochs`; see `train_and_evaluate`."""
    stop = stop or Stop()
    check_path(workdir)
    experiment = Experiment.from_config(config)
    experiment.build_dataset()
    run = experiment.describe(experiment.train_split)
    run["data"] |= describe_joint(experiment.dataset)
    log_setup(experiment, run)
    check_same_on_all(shared_values(run))
    features = FeatureCache(experiment) if config.train.cache_features != "none" else None
    batches = experiment.train_batches(features)
    with only_run_of_all_in(workdir), Checkpoints(workdir, clean=True) as checkpoints:
        start, state = restore_or_initialize(experiment, checkpoints, batches, run, workdir)
        total = experiment.timetable.total_steps
        if start == total and checkpoints.scored(start):
            logger.info("%s is already trained: step %d of %d", workdir, start, total)
            return
        if features:
            features.fill(state)
        if jax.process_index() == 0:
            warn_if_changed(workdir, run["arithmetic"])
            write_json(workdir / "run.json", run)
        if start:
            logger.info("resumed from step %d of %d", start, total)
        with open_writer(workdir, start) as writer:
            writer.write_config(run["config"])
            train_loop(experiment, start, state, batches, run, checkpoints, writer, stop)
    stop.idle()


def train_loop(
    experiment: Experiment,
    start: int,
    state: TrainState,
    batches: grain.DatasetIterator,
    run: dict[str, Any],
    checkpoints: Checkpoints,
    writer: MetricWriter,
    stop: Stop,
) -> None:
    """Trains from `start` to the last step; logs, saves, evaluates and handles stop requests."""
    config, timetable = experiment.config, experiment.timetable
    total = timetable.total_steps
    progress = Progress(total, config.train.batch_size)
    guard = LossGuard(experiment.sentence_ids, lambda: checkpoints.latest_step)
    pace = Pace(stop, config.checkpoint.every_minutes)
    evaluators = {
        name: Evaluator.from_experiment(experiment, experiment.dataset.split(name))
        for name in experiment.best_splits
    }
    validation = Validation(experiment, evaluators, checkpoints, writer, progress, stop)
    if start and timetable.evaluates_after(start) and not checkpoints.scored(start):
        validation.evaluate(start, state)
    for step in range(start + 1, total + 1):
        state, losses = experiment.train_step(state, put_batch(next(batches), experiment.mesh))
        guard.add(step, losses)
        stop.training()

        logs, evaluates = timetable.logs_after(step), timetable.evaluates_after(step)
        if logs or step == start + 1:
            scalars = guard.check()
            scalars |= {"learning_rate": float(experiment.schedule(step - 1))}
            scalars |= progress.report(step, scalars["loss"], step / timetable.steps_per_epoch)
            if logs:  # skip the first step after a resume, so that logs match uninterrupted runs
                writer.write(step, {f"train/{k}": v for k, v in scalars.items()})

        turn = pace.after(step)
        if turn.save or turn.stop or evaluates:
            guard.check()
            checkpoints.save(step, state, batches, run, experiment.vocabulary.words)
            pace.saved()
        if turn.stop:
            raise Stopped(f"stopped at step {step} of {total} and saved")
        if evaluates:
            validation.evaluate(step, state)


@dataclasses.dataclass(frozen=True)
class Validation:
    """Evaluates `eval.best_split` during training and scores the step's checkpoint."""

    experiment: Experiment
    evaluators: dict[str, Evaluator]
    checkpoints: Checkpoints
    writer: MetricWriter
    progress: Progress
    stop: Stop

    def evaluate(self, step: int, state: TrainState) -> None:
        """Evaluates a state whose checkpoint was just saved."""
        self.stop.evaluating(lambda: self.checkpoints.saving)
        experiment = self.experiment
        with self.progress.paused():
            network = local_copy(state.network(), experiment.mesh, experiment.local_mesh)
            of_splits = {name: x.scores(network) for name, x in self.evaluators.items()}
            best = thresholds.choose([metrics["threshold_curve"] for metrics in of_splits.values()])
            scalars: dict[str, float] = {}
            for name, metrics in of_splits.items():
                names = (*METRIC_NAMES, *GENERALIZED)
                known = {k: metrics[k] for k in names if metrics.get(k) is not None}
                shown = [k for k in ("oiou", "miou", "pointing") if k in known]
                line = "  ".join(f"{k} {known[k]:.4f}" for k in shown)
                logger.info("step %d  %s: %s", step, name, line)
                scalars |= {f"{name}/{k}": v for k, v in known.items()}
            value = float(np.mean([x[BEST_METRIC] for x in of_splits.values()]))
            if len(of_splits) > 1:
                logger.info("step %d  mean: %s %.4f", step, BEST_METRIC, value)
                scalars[f"mean/{BEST_METRIC}"] = value
            logger.info(
                "step %d  at the best threshold, %g: oiou %.4f", step, best.value, best.oiou
            )
            scalars |= {f"best_threshold/{k}": v for k, v in best._asdict().items()}
            if isinstance(experiment.config.eval.threshold, str):
                value = best.oiou
            self.writer.write(step, scalars)
            score = {BEST_METRIC: value, "best_threshold": best.value, "splits": of_splits}
            self.checkpoints.score(step, score)
