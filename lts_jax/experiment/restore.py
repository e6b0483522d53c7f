"""Restores trained networks from checkpoints."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lts_jax.config.compatibility import check_same_model
from lts_jax.config.flags import override_config, saved_config
from lts_jax.config.validation import check_config
from lts_jax.errors import ConfigError
from lts_jax.experiment import arithmetic
from lts_jax.experiment.experiment import Experiment
from lts_jax.experiment.thresholds import stored
from lts_jax.state.checkpoint_reader import CheckpointReader
from lts_jax.state.fallback import read_chosen
from lts_jax.state.train_state import TrainState, variables_of


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
      experiment: with the config for evaluation or prediction.
      state: parameters and BatchNorm statistics; the optimizer state is `()`.
      step: of the checkpoint.
      config: of the training, as JSON data.
      data: description of the training data, see `Experiment.describe`.
      weights: sources of the initial weights.
    """

    experiment: Experiment
    state: TrainState
    step: int
    config: dict[str, Any]
    data: dict[str, Any]
    weights: dict[str, Any]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by path, `params/…` and `batch_stats/…`."""
        flat = flatten_dict(variables_of(self.state), sep="/")
        return {name: np.asarray(value) for name, value in flat.items()}


def restore(
    workdir: Path, mesh: Mesh, step: int | None = None, config: ConfigDict | None = None
) -> Trained:
    """Restores a checkpoint of a run for evaluation, prediction or export.

    Args:
      workdir: of the run.
      mesh: the devices for the network.
      step: of the checkpoint; None selects the best readable one.
      config: for evaluation or prediction; None uses the checkpoint's config.

    Raises:
      ConfigError: there is no such checkpoint, the config describes another network or uses an
        unknown threshold, or a setting of JAX is not supported.
      UnreadableCheckpointError: the checkpoint of `step` is damaged.
    """
    arithmetic.check()
    if jax.process_index() == 0:
        arithmetic.warn_if_changed(workdir, arithmetic.describe())
    if config is not None:
        check_config(config)
    with CheckpointReader(workdir) as checkpoints:

        def read(step: int) -> Trained:
            saved = checkpoints.read_run(step)
            folder = checkpoints.folder / str(step)
            used = _check_saved(saved["config"], folder) if config is None else config
            check_same_model(saved["config"], used, workdir)
            # From the saved config: the config of this command may have another best_split.
            chosen_on = saved["config"]["eval"]["best_split"]
            value = checkpoints.best_threshold(step)
            best = stored(used.eval.threshold, value, chosen_on, folder)
            experiment = Experiment(used, mesh, saved["vocabulary"], best)
            state = checkpoints.restore_network(step, experiment.abstract_network)
            return Trained(
                experiment, state, step, saved["config"], saved["data"], saved["weights"]
            )

        return read_chosen(checkpoints, step, read)[1]


def overridden(workdir: Path, step: int | None, overrides: Sequence[str]) -> ConfigDict:
    """Reads the training config of a checkpoint and applies overrides.

    Args:
      workdir: of the run.
      step: of the checkpoint; None selects the best readable one.
      overrides: such as `--config.eval.threshold=0.4`.

    Raises:
      ConfigError: there is no such checkpoint, or its config or an override is invalid.
      UnreadableCheckpointError: the checkpoint of `step` is damaged.
    """
    with CheckpointReader(workdir) as checkpoints:

        def read(step: int) -> ConfigDict:
            saved = checkpoints.read_run(step)
            return _check_saved(saved["config"], checkpoints.folder / str(step))

        return override_config(read_chosen(checkpoints, step, read)[1], overrides)


def _check_saved(saved: dict[str, Any], folder: Path) -> ConfigDict:
    try:
        return saved_config(saved)
    except ConfigError as error:
        raise ConfigError(f"{folder}: the checkpoint's config: {error}") from error
