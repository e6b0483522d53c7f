"""Reads the checkpoints of a run, by Orbax."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp

from lts_jax.distributed.processes import first_message
from lts_jax.errors import ConfigError, UnreadableCheckpointError
from lts_jax.state.fingerprint import fingerprint
from lts_jax.state.train_state import TrainState

logger = logging.getLogger(__name__)

BEST_METRIC = "oiou"
JSON_ITEMS = ("config", "data", "vocabulary", "weights", "checksums")
_NETWORK = ("step", "params", "batch_stats")  # of a TrainState


def item_options() -> dict[str, Any]:
    """What a checkpoint consists of, for Orbax."""
    return {
        "item_names": ("state", "iterator", *JSON_ITEMS),
        "item_handlers": {"iterator": grain.checkpoint.CheckpointHandler()},
    }


class CheckpointReader:
    """The checkpoints of a workdir.

    Each process reads for itself: in Orbax's own way, a process that cannot read leaves the others
    waiting for it.

    Args:
      workdir: of the run.

    Attributes:
      folder: of the checkpoints.

    Raises:
      ConfigError: there are none.
    """

    def __init__(self, workdir: Path) -> None:
        self.folder = (workdir / "checkpoints").resolve()
        if not self.folder.is_dir():
            raise ConfigError(
                f"{workdir} holds no checkpoint: train first, or give another run's workdir"
            )
        me = jax.process_index()
        options = ocp.CheckpointManagerOptions(
            create=False,
            enable_async_checkpointing=False,
            lightweight_initialize=True,  # reads nothing: what it reads may be damaged
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"reader {me}"
            ),
        )
        self._reader = ocp.CheckpointManager(self.folder, options=options, **item_options())
        read = {step: _read_score(self.folder / str(step)) for step in self.steps}
        self._scores = {step: score for step, score in read.items() if score is not None}

    @property
    def steps(self) -> list[int]:
        """All steps, increasing."""
        return sorted(self._reader.all_steps())

    @property
    def best_step(self) -> int | None:
        """The newest of the steps with the best metric, or None where none was evaluated."""
        return next(iter(self.by_score()), None)

    def by_score(self) -> list[int]:
        """The steps that were evaluated, those with the best metric first, of these the newest."""
        scored = [step for step in self.steps if step in self._scores]
        return sorted(scored, key=lambda step: (self._scores[step], step), reverse=True)

    def scored(self, step: int) -> bool:
        """Whether a checkpoint has been evaluated."""
        return step in self._scores

    def choose(self, step: int | None) -> int:
        """Returns `step`, or the best one where None.

        Raises:
          ConfigError: there is no such checkpoint.
        """
        chosen = self.best_step if step is None else step
        if chosen is None or chosen not in self.steps:
            listed = ", ".join(map(str, self.steps)) or "none"
            wanted = f"of step {step}; there are {listed}"
            if step is None and self.steps:
                wanted = f"that was evaluated: train on, or give --checkpoint; there are {listed}"
            elif step is None:
                wanted = "yet: train first"
            raise ConfigError(f"{self.folder} holds no checkpoint {wanted}")
        return chosen

    def read_run(self, step: int) -> dict[str, Any]:
        """Returns what a checkpoint was made with.

        That is `config`, `data`, `vocabulary`, `weights`: what gave the first weights, `{}` where
        all were random, and `checksums` of the state, see `lts_jax.state.fingerprint.fingerprint`.
        """
        return self._read_json(step, JSON_ITEMS)

    def restore_state(self, step: int, abstract_state: TrainState) -> TrainState:
        """Reads a state into the shapes, dtypes and shardings of `abstract_state`.

        Raises:
          UnreadableCheckpointError: it is damaged, or another network's.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        state: TrainState = self._restore(step, args)["state"]
        self._verify(step, {"network": state.network(), "optimizer": state.opt_state})
        return state

    def restore_network(self, step: int, abstract_state: TrainState) -> TrainState:
        """As `restore_state`, of `TrainState.network` alone."""
        wanted = {name: getattr(abstract_state, name) for name in _NETWORK}
        restore = ocp.args.PyTreeRestore(
            item=wanted,
            restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
            partial_restore=True,
        )
        restored = self._restore(step, ocp.args.Composite(state=restore))["state"]
        network = TrainState(**restored, opt_state=())
        self._verify(step, {"network": network})
        return network

    def read_variables(self, step: int) -> dict[str, Any]:
        """Reads `params` and `batch_stats` as they are, NumPy arrays of whatever shapes."""
        folder = self.folder / str(step) / "state"
        try:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                tree = checkpointer.metadata(folder).item_metadata.tree
                wanted = {name: tree[name] for name in _NETWORK}
                as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
                args = ocp.args.PyTreeRestore(
                    item=wanted,
                    restore_args=jax.tree.map(lambda _: as_numpy, wanted),
                    partial_restore=True,
                )
                network: dict[str, Any] = checkpointer.restore(folder, args=args)
        except Exception as error:  # as in `_restore`
            raise UnreadableCheckpointError(_unreadable(folder, error)) from error
        self._verify(step, {"network": TrainState(**network, opt_state=())})
        return {name: network[name] for name in ("params", "batch_stats")}

    def restore_iterator(self, step: int, iterator: grain.DatasetIterator) -> None:
        """Sets the iterator to where it stood when the checkpoint was saved.

        By hand: grain wants the file of this process and this number of processes, though the
        iterators of all are the same.
        """
        folder = self.folder / str(step) / "iterator"
        try:
            iterator.set_state(json.loads(min(folder.glob("process_*.json")).read_text()))
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise UnreadableCheckpointError(_unreadable(folder, error)) from error

    def _read_json(self, step: int, names: Sequence[str]) -> dict[str, Any]:
        items = {name: ocp.args.JsonRestore() for name in names}
        restored = self._restore(step, ocp.args.Composite(**items))
        return {name: restored[name] for name in names}

    def _verify(self, step: int, parts: dict[str, Any]) -> None:
        """Raises UnreadableCheckpointError where a part is not what was saved."""
        saved = self._read_json(step, ["checksums"])["checksums"]
        for name, part in parts.items():
            message = ""
            if saved.get(name) != fingerprint(part).checksum:
                folder = self.folder / str(step)
                message = f"checkpoint {folder} is damaged: its {name} has another checksum"
            if message := first_message(message):
                raise UnreadableCheckpointError(message)

    def _restore(self, step: int, args: ocp.args.Composite) -> Any:
        """Reads items, on all processes or on none."""
        message, cause, restored = "", None, None
        try:
            restored = self._reader.restore(step, args=args)
        except Exception as error:  # TensorStore's own are nothing more than that
            message, cause = _unreadable(self.folder / str(step), error), error
        if message := first_message(message):
            raise UnreadableCheckpointError(message) from cause
        return restored

    def close(self) -> None:
        """Frees what Orbax holds."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def first_line(error: Exception) -> str:
    """What an error says, without what TensorStore adds about its own calls."""
    line = (str(error).splitlines() or [""])[0]
    return line.split(" [", 1)[0][:300]


def split_path(checkpoint: Path) -> tuple[Path, int]:
    """Takes `<workdir>/checkpoints/<step>` apart; raises ConfigError where it is something else."""
    workdir, name = checkpoint.parent.parent, checkpoint.name
    if checkpoint.parent.name != "checkpoints" or not name.isdecimal():
        raise ConfigError(
            f"--checkpoint {checkpoint}: give a step's folder, as runs/shapes/checkpoints/934"
        )
    return workdir, int(name)


def _read_score(folder: Path) -> float | None:
    """The best metric that a checkpoint holds, or None where it was not evaluated."""
    path = folder / "metrics" / "metrics"
    try:
        return float(json.loads(path.read_text())[BEST_METRIC])
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, OSError) as error:
        logger.warning(_unreadable(path, error))
        return None


def _unreadable(path: Path, error: Exception) -> str:
    return f"checkpoint {path} cannot be read ({type(error).__name__}: {first_line(error)})"
