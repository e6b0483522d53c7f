"""Setup of a training: logs the data and devices, and restores or initializes the state."""

import logging
from pathlib import Path
from typing import Any

import grain
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from lts_jax.config.compatibility import check_same_data, check_same_run
from lts_jax.data.datasets import log_joint
from lts_jax.distributed.mesh import check_batch_size
from lts_jax.distributed.processes import check_same_on_all
from lts_jax.errors import ConfigError
from lts_jax.experiment.experiment import Experiment
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.state.fallback import read_newest
from lts_jax.state.train_state import TrainState
from lts_jax.training.initialization import fill
from lts_jax.training.logs import log_data
from tfds_refcoco.records.split import Split

logger = logging.getLogger(__name__)


def log_setup(experiment: Experiment, run: dict[str, Any]) -> None:
    """Logs the data, the devices and the size of the network.

    Raises:
      ConfigError: the batch size is not divisible by the devices, or all training masks are empty.
      tfds_refcoco.DataError: a split to evaluate does not exist.
    """
    log_data_setup(experiment, run)
    train = experiment.config.train
    check_batch_size(
        "train.batch_size",
        train.batch_size,
        experiment.mesh,
        train.accumulate,
        train.sentences_per_image,
    )
    parameters = parameter_overview.count_parameters(experiment.abstract_state.params)
    logger.info("devices: %s", run["devices"])
    logger.info("parameters: %s", f"{parameters:,}")


def log_data_setup(experiment: Experiment, run: dict[str, Any]) -> None:
    """Logs the splits, examples excluded from joint training, and evaluated training images.

    Raises:
      ConfigError: all training masks are empty.
      tfds_refcoco.DataError: a split to evaluate does not exist.
    """
    config, dataset = experiment.config, experiment.dataset
    name = config.data.train_split + (" (listed)" if config.data.train_images else "")
    evaluated = [*experiment.best_splits, *config.eval.splits]
    splits = {name: experiment.train_split} | {name: dataset.split(name) for name in evaluated}
    log_data(dataset, splits, experiment.vocabulary)
    log_joint(run["data"])
    for split_name in dict.fromkeys(evaluated):
        pictures = np.unique(splits[split_name].index.picture)
        if shared := np.isin(pictures, experiment.train_split.index.picture).sum():
            logger.warning(
                "%s: %d of %d images are in the training split", split_name, shared, len(pictures)
            )
    for name in experiment.best_splits:
        _check_targets(experiment.train_split, dataset.split(name), config.data)


def _check_targets(train: Split, best: Split, data: ConfigDict) -> None:
    """Raises ConfigError if every training mask is empty: the network would learn empty masks."""
    if not train.index.area.any():
        raise ConfigError(
            f"data.train_split={data.train_split}: all {len(train.index)} masks are empty; train "
            "on a split whose sentences have targets"
        )
    if not best.index.area.any():
        logger.warning(
            "eval.best_split %s: all masks are empty: the best checkpoint predicts empty masks",
            "+".join(best.names),
        )


def restore_or_initialize(
    experiment: Experiment,
    checkpoints: Checkpoints,
    batches: grain.DatasetIterator,
    run: dict[str, Any],
    workdir: Path,
) -> tuple[int, TrainState]:
    """Restores the newest checkpoint of the workdir, or initializes the state.

    Args:
      experiment: the experiment to train.
      checkpoints: the workdir's checkpoints.
      batches: set to the batch after the checkpoint's step.
      run: description of the run; its `weights` are filled in.
      workdir: named in errors.

    Returns:
      The number of steps taken, and the state.

    Raises:
      ConfigError: the workdir belongs to another run or to a longer one.
    """

    def read(step: int) -> TrainState:
        saved = checkpoints.read_run(step)
        check_same_run(saved["config"], experiment.config, workdir)
        words = list(experiment.vocabulary.words)
        check_same_data(saved, run | {"vocabulary": words}, workdir)
        checkpoints.restore_iterator(step, batches)
        state = checkpoints.restore_state(step, experiment.abstract_state)
        run["weights"] = saved["weights"]
        return state

    if resumed := read_newest(checkpoints, read):
        total = experiment.timetable.total_steps
        if resumed[0] > total:
            raise ConfigError(
                f"{workdir} was trained for {resumed[0]} steps, but train.epochs="
                f"{experiment.config.train.epochs} is only {total} steps. Increase train.epochs or "
                "use another --workdir."
            )
        return resumed
    state, run["weights"] = fill(
        experiment.initial_state(),
        experiment.config,
        experiment.vocabulary,
        experiment.train_split.index.text,
    )
    check_same_on_all(run["weights"])
    return 0, state
