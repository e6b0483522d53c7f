"""Checkpoints of everything that a run needs to go on, by Orbax."""

import json
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from lts_jax.errors import ConfigError
from lts_jax.steps import TrainState

BEST_METRIC = "oiou"
_JSON_ITEMS = ("config", "data", "vocabulary", "weights")


def _score(metrics: dict[str, float]) -> float:
    return metrics[BEST_METRIC]


class Checkpoints:
    """The checkpoints of a workdir: the latest one and the one with the best oIoU.

    Each holds the training state, the data iterator, the config, what the data was, the
    vocabulary's words, and where the first weights came from. Leaving the context waits until
    everything is on disk.
    """

    def __init__(self, workdir: Path):
        # max_to_keep with best_fn would delete the latest step.
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(n=1),
                preservation_policy.BestN(
                    get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=_score, best_mode="max", preservation_policy=policy
        )
        self._manager = ocp.CheckpointManager(
            (workdir / "checkpoints").resolve(),
            options=options,
            item_names=("state", "iterator", *_JSON_ITEMS),
            item_handlers={"iterator": grain.checkpoint.CheckpointHandler()},
        )

    @property
    def latest_step(self) -> int | None:
        """The newest step, or None where there is no checkpoint."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The step with the best metric, or None where there is no checkpoint."""
        return self._manager.best_step()

    def choose(self, step: int | None) -> int:
        """Returns `step`, or the best one where None.

        Raises:
          ConfigError: there is no such checkpoint.
        """
        steps = self._manager.all_steps()
        chosen = self.best_step if step is None else step
        if chosen is None or chosen not in steps:
            folder = self._manager.directory
            listed = ", ".join(map(str, sorted(steps))) or "none"
            wanted = "yet: train first" if step is None else f"of step {step}; there are {listed}"
            raise ConfigError(f"{folder} holds no checkpoint {wanted}")
        return chosen

    def save(
        self,
        step: int,
        state: TrainState,
        iterator: grain.DatasetIterator,
        run: dict[str, Any],
        words: list[str],
        metrics: dict[str, float],
    ) -> None:
        """Writes a checkpoint in the background; an interrupted one is never taken for whole.

        Args:
          step: training steps taken.
          state: the training state.
          iterator: of the training batches; it must stand right behind the step's batch.
          run: of which `config`, `data` and `weights` are kept, see
            `lts_jax.experiment.describe_run`.
          words: of the vocabulary, in order.
          metrics: with `BEST_METRIC`, by which the best checkpoint is chosen.
        """
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                iterator=grain.checkpoint.CheckpointSave(iterator),
                config=ocp.args.JsonSave(run["config"]),
                data=ocp.args.JsonSave(run["data"]),
                vocabulary=ocp.args.JsonSave(words),
                weights=ocp.args.JsonSave(run["weights"]),
            ),
            metrics=metrics,
        )

    def read_run(self, step: int) -> dict[str, Any]:
        """Returns what a checkpoint was made with.

        That is `config`, `data`, `vocabulary`, and `weights`: what gave the first weights, `{}`
        where all were random.
        """
        folder = Path(self._manager.directory) / str(step)
        # Older checkpoints know nothing of the first weights: theirs were random.
        names = [name for name in _JSON_ITEMS if name != "weights" or (folder / name).exists()]
        items = {name: ocp.args.JsonRestore() for name in names}
        restored = self._restore(step, ocp.args.Composite(**items))
        return {"weights": {}} | {name: restored[name] for name in names}

    def restore_state(self, step: int, abstract_state: TrainState) -> TrainState:
        """Reads a state into the shapes, dtypes and shardings of `abstract_state`."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        return self._restore(step, args)["state"]

    def restore_network(self, step: int, abstract_state: TrainState) -> TrainState:
        """As `restore_state`, without the optimizer's part, which is two thirds: `()` instead."""
        names = ("step", "params", "batch_stats")
        wanted = {name: getattr(abstract_state, name) for name in names}
        restore = ocp.args.PyTreeRestore(
            item=wanted,
            restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
            partial_restore=True,
        )
        return TrainState(
            **self._restore(step, ocp.args.Composite(state=restore))["state"], opt_state=()
        )

    def read_variables(self, step: int) -> dict[str, Any]:
        """Reads `params` and `batch_stats` as they are, NumPy arrays of whatever shapes."""
        folder = Path(self._manager.directory) / str(step) / "state"
        try:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                tree = checkpointer.metadata(folder).item_metadata.tree
                wanted = {name: tree[name] for name in ("params", "batch_stats")}
                as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
                args = ocp.args.PyTreeRestore(
                    item=wanted,
                    restore_args=jax.tree.map(lambda _: as_numpy, wanted),
                    partial_restore=True,
                )
                return checkpointer.restore(folder, args=args)
        except (KeyError, ValueError, OSError) as error:
            raise ConfigError(f"checkpoint {folder} cannot be read ({error})") from error

    def restore_iterator(self, step: int, iterator: grain.DatasetIterator) -> None:
        """Sets the iterator to where it stood when the checkpoint was saved.

        Every process has written where it stood, the same for all: any number may go on from it.
        """
        folder = self._manager.directory / str(step) / "iterator"
        try:
            file = next(folder.glob("process_0-of-*.json"))
            iterator.set_state(json.loads(file.read_text()))
        except (StopIteration, ValueError, OSError) as error:
            raise _unreadable(folder.parent, error) from error

    def _restore(self, step: int, args: ocp.args.Composite) -> Any:
        try:
            return self._manager.restore(step, args=args)
        except (KeyError, ValueError, OSError) as error:
            raise _unreadable(self._manager.directory / str(step), error) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: object) -> None:
        self._manager.close()


def _unreadable(folder: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"checkpoint {folder} cannot be read; move it away to go on from an older one, or "
        f"take another --workdir ({error})"
    )


def open_checkpoints(workdir: Path) -> Checkpoints:
    """Opens the checkpoints of a workdir for reading; raises ConfigError where there are none."""
    if not (workdir / "checkpoints").is_dir():
        raise ConfigError(f"{workdir} holds no checkpoint: train first, or give another --workdir")
    return Checkpoints(workdir)


def split_path(checkpoint: Path) -> tuple[Path, int]:
    """Takes `<workdir>/checkpoints/<step>` apart; raises ConfigError where it is something else."""
    workdir, name = checkpoint.parent.parent, checkpoint.name
    if checkpoint.parent.name != "checkpoints" or not name.isdecimal():
        raise ConfigError(
            f"--checkpoint {checkpoint}: give a step's folder, as runs/shapes/checkpoints/934"
        )
    return workdir, int(name)
