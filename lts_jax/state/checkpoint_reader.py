"""Reads the checkpoints of a run with Orbax."""

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
"""Maximum number of parameters and statistics; the paper's network has 9e7."""


class CheckpointReader:
    """The checkpoints of a workdir.

    Each process reads independently: with Orbax's default, a process that fails to read would
    leave the others waiting.

    Args:
      workdir: the run's folder.

    Attributes:
      folder: the folder of the checkpoints.

    Raises:
      ConfigError: the workdir has no checkpoints.
    """

    def __init__(self, workdir: Path) -> None:
        check_path(workdir)
        self.folder = (workdir / "checkpoints").resolve()
        if not self.folder.is_dir():
            raise ConfigError(
                f"{workdir} contains no checkpoint: train first, or use the workdir of another run"
            )
        me = jax.process_index()
        options = ocp.CheckpointManagerOptions(
            create=False,
            enable_async_checkpointing=False,
            lightweight_initialize=True,  # reads no files, as they may be damaged
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"reader {me}"
            ),
        )
        self._reader = ocp.CheckpointManager(self.folder, options=options, **item_options())
        read = {step: read_score(self.folder / str(step)) for step in self.steps}
        self._scores = {step: score for step, score in read.items() if score is not None}

    @property
    def steps(self) -> list[int]:
        """All steps, in increasing order."""
        return sorted(self._reader.all_steps())

    @property
    def best_step(self) -> int | None:
        """The newest step with the best metric, or None if none was evaluated."""
        return next(iter(self.by_score()), None)

    def by_score(self) -> list[int]:
        """Returns the evaluated steps, best metric first; for equal metrics, newest first."""
        scored = [step for step in self.steps if step in self._scores]
        return sorted(scored, key=lambda step: (self._scores[step].value, step), reverse=True)

    def scored(self, step: int) -> bool:
        """Returns whether a checkpoint has been evaluated."""
        return step in self._scores

    def best_threshold(self, step: int) -> float | None:
        """Returns a checkpoint's best threshold on `eval.best_split`, or None if unknown."""
        return self._scores[step].best_threshold if step in self._scores else None

    def choose(self, step: int | None) -> int:
        """Returns `step`, or the best step if it is None.

        Raises:
          ConfigError: the checkpoint does not exist.
        """
        chosen = self.best_step if step is None else step
        if chosen is None or chosen not in self.steps:
            listed = ", ".join(map(str, self.steps)) or "none"
            wanted = f"of step {step}; available steps: {listed}"
            if step is None and self.steps:
                wanted = (
                    "that was evaluated: resume training, or set --checkpoint; available steps: "
                    f"{listed}"
                )
            elif step is None:
                wanted = "yet: train first"
            raise ConfigError(f"{self.folder} contains no checkpoint {wanted}")
        return chosen

    def read_run(self, step: int) -> dict[str, Any]:
        """Returns the JSON items of a checkpoint.

        They are `config`, `data`, `vocabulary`, `weights` (the source of the initial weights, `{}`
        if all were random) and `checksums`, see `lts_jax.state.fingerprint.fingerprint`.

        Raises:
          UnreadableCheckpointError: a file is damaged.
        """
        run = self._read_json(step, JSON_ITEMS)
        for name in DESCRIBED:
            if json_checksum(run[name]) != run["checksums"][name]:
                raise UnreadableCheckpointError(self._damaged(step, name))
        return run

    def restore_state(self, step: int, abstract_state: TrainState) -> TrainState:
        """Restores a state with the shapes, dtypes and shardings of `abstract_state`.

        Raises:
          UnreadableCheckpointError: the checkpoint is damaged, belongs to another network, or has
            non-finite or implausible values.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        state: TrainState = self._restore(step, args)["state"]
        self._verify(step, {"network": state.network(), "optimizer": state.opt_state})
        return state

    def restore_network(self, step: int, abstract_state: TrainState) -> TrainState:
        """Like `restore_state`, for `TrainState.network` only; its size is limited."""
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
        """Reads `params` and `batch_stats` as NumPy arrays with their saved shapes.

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
        """Reads the network into NumPy arrays, in this process only."""
        folder = self._reader.directory / str(step) / "state"
        # A Checkpointer would warn that the folder is not a complete checkpoint.
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
        """Restores the iterator's position when the checkpoint was saved.

        grain's handler is not used: it requires a file for this process and the same number of
        processes, although the iterators of all processes are identical.

        Raises:
          UnreadableCheckpointError: the file is damaged.
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
        """Reads JSON items; fails on all processes if one of them fails."""
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
        return f"checkpoint {folder} is damaged: the checksum of its {name} is wrong"

    def _verify(self, step: int, parts: dict[str, Any]) -> None:
        """Raises UnreadableCheckpointError if a part is damaged, not finite or implausible."""
        saved = self._read_json(step, ["checksums"])["checksums"]
        for name, part in parts.items():
            message, actual = "", fingerprint(part)
            if saved[name] != actual.checksum:
                message = self._damaged(step, name)
            elif not actual.finite:
                message = f"checkpoint {self.folder / str(step)}: its {name} is not finite"
            elif not actual.plausible and name == "network":
                message = (
                    f"checkpoint {self.folder / str(step)}: its {name} has values above "
                    f"{LARGEST:g}, which training does not produce"
                )
            if message := first_message(message):
                raise UnreadableCheckpointError(message)

    def _restore(self, step: int, args: ocp.args.Composite) -> Any:
        """Restores items; fails on all processes if one of them fails."""
        message, cause, restored = "", None, None
        try:
            restored = self._reader.restore(step, args=args)
        except Exception as error:  # TensorStore's errors have no more specific base class
            message, cause = _unreadable(self.folder / str(step), error), error
        if message := first_message(message):
            raise UnreadableCheckpointError(message) from cause
        return restored

    def close(self) -> None:
        """Releases Orbax's resources."""
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
    """Returns an error's first line, without TensorStore's details about its calls."""
    line = (str(error).splitlines() or [""])[0]
    return line.split(" [", 1)[0][:300]


def _check_size(arrays: Sequence[Any], folder: Path) -> None:
    """Raises UnreadableCheckpointError if the arrays exceed the maximum size."""
    size = sum(math.prod(x.shape) for x in arrays)
    if size > MOST_NUMBERS:
        raise UnreadableCheckpointError(
            f"checkpoint {folder}: its network has {size:,} numbers; the maximum is "
            f"{MOST_NUMBERS:,}"
        )


def _unreadable(path: Path, error: Exception) -> str:
    return f"checkpoint {path} cannot be read ({type(error).__name__}: {first_line(error)})"
