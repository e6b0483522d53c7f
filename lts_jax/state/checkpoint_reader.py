"""Reads the checkpoints of a run, by Orbax."""

import contextlib
import logging
import math
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
from lts_jax.io.json_files import mapping, read_json
from lts_jax.state.checkpoint_files import (
    DESCRIBED,
    JSON_ITEMS,
    check_path,
    item_options,
    read_items,
    read_score,
)
from lts_jax.state.fingerprint import LARGEST, fingerprint, json_checksum
from lts_jax.state.train_state import TrainState

logger = logging.getLogger(__name__)

_NETWORK = ("step", "params", "batch_stats")  # of a TrainState
MOST_NUMBERS = 2**31
"""Parameters and statistics of the largest network that is read; the paper's has 9e7."""


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
        check_path(workdir)
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
        read = {step: read_score(self.folder / str(step)) for step in self.steps}
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
        return sorted(scored, key=lambda step: (self._scores[step].value, step), reverse=True)

    def scored(self, step: int) -> bool:
        """Whether a checkpoint has been evaluated."""
        return step in self._scores

    def best_threshold(self, step: int) -> float | None:
        """The threshold that is best for a checkpoint on `eval.best_split`; None if unknown."""
        return self._scores[step].best_threshold if step in self._scores else None

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

        Raises:
          UnreadableCheckpointError: a file is damaged, or not what was saved.
        """
        run = self._read_json(step, JSON_ITEMS)
        for name in DESCRIBED:
            if json_checksum(run[name]) != run["checksums"][name]:
                raise UnreadableCheckpointError(self._damaged(step, name))
        return run

    def restore_state(self, step: int, abstract_state: TrainState) -> TrainState:
        """Reads a state into the shapes, dtypes and shardings of `abstract_state`.

        Raises:
          UnreadableCheckpointError: it is damaged, or another network's, or its numbers are not
            finite or absurd.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        state: TrainState = self._restore(step, args)["state"]
        self._verify(step, {"network": state.network(), "optimizer": state.opt_state})
        return state

    def restore_network(self, step: int, abstract_state: TrainState) -> TrainState:
        """As `restore_state`, of `TrainState.network` alone; of a bounded size."""
        _check_size(jax.tree.leaves(abstract_state.network()), self.folder / str(step))
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
        """Reads `params` and `batch_stats` as they are, NumPy arrays of whatever shapes.

        Raises:
          UnreadableCheckpointError: as in `restore_state`.
        """
        message, cause, network = "", None, {}
        try:
            network = self._read_network(step)
        except UnreadableCheckpointError as error:
            message = str(error)
        except Exception as error:  # as in `_restore`
            message, cause = _unreadable(self.folder / str(step), error), error
        if message := first_message(message):
            raise UnreadableCheckpointError(message) from cause
        self._verify(step, {"network": TrainState(**network, opt_state=())})
        return {name: network[name] for name in ("params", "batch_stats")}

    def _read_network(self, step: int) -> dict[str, Any]:
        """Reads the network into NumPy arrays, in this process alone."""
        folder = self._reader.directory / str(step) / "state"
        # Not by a Checkpointer, which warns that the folder is no whole checkpoint.
        with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
            tree = handler.metadata(folder).tree
            wanted = {name: tree[name] for name in _NETWORK}
            _check_size(jax.tree.leaves(wanted), folder)
            as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
            args = ocp.args.PyTreeRestore(
                item=wanted,
                restore_args=jax.tree.map(lambda _: as_numpy, wanted),
                partial_restore=True,
            )
            network: dict[str, Any] = handler.restore(folder, args=args)
        return network

    def restore_iterator(self, step: int, iterator: grain.DatasetIterator) -> None:
        """Sets the iterator to where it stood when the checkpoint was saved.

        By hand: grain wants the file of this process and this number of processes, though the
        iterators of all are the same.

        Raises:
          UnreadableCheckpointError: the file is damaged, or not what was saved.
        """
        folder = self.folder / str(step) / "iterator"
        checksum = self._read_json(step, ["checksums"])["checksums"]["iterator"]
        try:
            state = read_json(min(folder.glob("process_*.json")), mapping, "")
            if json_checksum(state) != checksum:
                raise UnreadableCheckpointError(self._damaged(step, "iterator"))
            iterator.set_state(state)
        except UnreadableCheckpointError:
            raise
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise UnreadableCheckpointError(_unreadable(folder, error)) from error

    def _read_json(self, step: int, names: Sequence[str]) -> dict[str, Any]:
        """Reads items that are JSON, on all processes or on none."""
        folder, message, read = self.folder / str(step), "", {}
        try:
            read = read_items(folder, names)
        except ConfigError as error:
            message = f"checkpoint {folder} cannot be read: {str(error).removesuffix('; ')}"
        if message := first_message(message):
            raise UnreadableCheckpointError(message)
        return read

    def _damaged(self, step: int, name: str) -> str:
        folder = self.folder / str(step)
        return f"checkpoint {folder} is damaged: its {name} has another checksum"

    def _verify(self, step: int, parts: dict[str, Any]) -> None:
        """Raises UnreadableCheckpointError where a part is not what was saved."""
        saved = self._read_json(step, ["checksums"])["checksums"]
        for name, part in parts.items():
            message, found = "", fingerprint(part)
            if saved[name] != found.checksum:
                message = self._damaged(step, name)
            elif not found.finite:
                message = f"checkpoint {self.folder / str(step)}: its {name} is not finite"
            elif not found.plausible and name == "network":
                message = (
                    f"checkpoint {self.folder / str(step)}: its {name} holds numbers above "
                    f"{LARGEST:g}, which no training leaves"
                )
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


def _check_size(arrays: Sequence[Any], folder: Path) -> None:
    """Raises UnreadableCheckpointError where arrays would fill the memory."""
    size = sum(math.prod(x.shape) for x in arrays)
    if size > MOST_NUMBERS:
        raise UnreadableCheckpointError(
            f"checkpoint {folder}: a network of {size:,} numbers; at most {MOST_NUMBERS:,} are read"
        )


def _unreadable(path: Path, error: Exception) -> str:
    return f"checkpoint {path} cannot be read ({type(error).__name__}: {first_line(error)})"
