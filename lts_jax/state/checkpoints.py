"""Writes the checkpoints of a run with Orbax, including everything needed to resume."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from lts_jax.errors import NonFiniteLossError, SaveError, UnreadableCheckpointError
from lts_jax.io.files import write_json
from lts_jax.state.checkpoint_files import (
    BEST_METRIC,
    DESCRIBED,
    Score,
    check_path,
    item_options,
)
from lts_jax.state.checkpoint_reader import CheckpointReader, first_line
from lts_jax.state.fingerprint import LARGEST, fingerprint, json_checksum
from lts_jax.state.train_state import TrainState

LATEST_KEPT = 2  # the second is a fallback if the first is damaged
_LEAST_SLICE = 2**20
"""Minimum bytes per device for the replicas of an array to write it in slices.

By default Orbax slices every array: eight devices would compile and run 3,000 small programs per
save.
"""


class Checkpoints(CheckpointReader):
    """The checkpoints of a training run: the latest two and the one with the best oIoU.

    Each contains the training state, the data iterator, the config, a description of the data, the
    vocabulary, the source of the initial weights and, after evaluation, the metrics. Leaving the
    context waits until everything is on disk.

    Args:
      workdir: the run's folder.
      clean: whether to remove files of an interrupted save; requires the lock of the workdir.
    """

    def __init__(self, workdir: Path, *, clean: bool = False) -> None:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_Preservation(self),
            cleanup_tmp_directories=clean,
            lightweight_initialize=True,  # reads no files, as they may be damaged
        )
        check_path(workdir)
        folder = (workdir / "checkpoints").resolve()
        self._read_back = False
        handlers = ocp.type_handlers
        registry = handlers.create_type_handler_registry(
            (jax.Array, handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=_LEAST_SLICE)),
            (np.ndarray, handlers.NumpyHandler()),  # weights loaded from files
        )
        items = item_options()
        items["item_handlers"]["state"] = ocp.PyTreeCheckpointHandler(
            type_handler_registry=registry
        )
        self._writer = ocp.CheckpointManager(folder, options=options, **items)
        super().__init__(workdir)

    @property
    def steps(self) -> list[int]:
        """All steps, in increasing order."""
        return sorted(self._writer.all_steps())

    @property
    def latest_step(self) -> int | None:
        """The newest step, or None if there is no checkpoint."""
        return next(reversed(self.steps), None)

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return bool(self._writer.is_saving_in_progress())

    def save(
        self,
        step: int,
        state: TrainState,
        iterator: grain.DatasetIterator,
        run: dict[str, Any],
        words: Sequence[str],
    ) -> None:
        """Writes a checkpoint in the background; interrupted saves are discarded.

        Args:
          step: number of training steps taken.
          state: the training state.
          iterator: the iterator of training batches, positioned after the step's batch.
          run: description of the run; `config`, `data` and `weights` are saved, see
            `Experiment.describe`.
          words: the words of the vocabulary, in order.

        Raises:
          NonFiniteLossError: the state has non-finite values; nothing is written.
          SaveError: this or the previous checkpoint could not be written.
        """
        # Two checksums, because evaluation reads only the network.
        network, optimizer = fingerprint(state.network()), fingerprint(state.opt_state)
        if not (network.finite and optimizer.finite and network.plausible):
            what = (
                f"larger than {LARGEST:g}" if network.finite and optimizer.finite else "not finite"
            )
            raise NonFiniteLossError(
                f"the parameters, statistics or moments are {what} after step {step}; the last "
                f"good checkpoint is step {self.latest_step}. Restart with a lower "
                "train.learning_rate and another --workdir."
            )
        described = {name: run[name] for name in DESCRIBED if name != "vocabulary"}
        described["vocabulary"] = list(words)
        checksums: dict[str, Any] = {name: json_checksum(x) for name, x in described.items()}
        checksums |= {"network": network.checksum, "optimizer": optimizer.checksum}
        checksums["iterator"] = json_checksum(iterator.get_state())
        items = described | {"checksums": checksums}
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state),
            iterator=grain.checkpoint.CheckpointSave(iterator),
            **{name: ocp.args.JsonSave(value) for name, value in items.items()},
        )
        with self._writing():
            self._writer.save(step, args=args)
        if not self._read_back:
            self._check_readable(step)
            self._read_back = True

    def _check_readable(self, step: int) -> None:
        """Reads the first checkpoint back, to detect unreadable checkpoints early.

        Raises:
          SaveError: the checkpoint cannot be read.
        """
        with self._writing():
            self._writer.wait_until_finished()
        multihost_utils.sync_global_devices("written")  # the first process renames its folder
        try:
            self.read_run(step)
            self.read_variables(step)
        except UnreadableCheckpointError as error:
            raise SaveError(
                f"{self.folder}: the first checkpoint of this run was written but cannot be read "
                f"back: {error}. Choose another --workdir, on another disk"
            ) from error

    def score(self, step: int, metrics: dict[str, Any]) -> None:
        """Adds metrics to a checkpoint and deletes checkpoints that are no longer needed.

        Args:
          step: the checkpoint's step.
          metrics: includes `BEST_METRIC` and optionally `best_threshold`.

        Raises:
          SaveError: the checkpoint could not be written.
        """
        with self._writing():
            self._writer.wait_until_finished()
            if jax.process_index() == 0:
                write_json(self.folder / str(step) / "metrics" / "metrics", metrics)
            self._scores[step] = Score(metrics[BEST_METRIC], metrics.get("best_threshold"))
            for old in sorted(set(self.steps) - self.kept(self.steps)):
                self._writer.delete(old)

    def kept(self, steps: Sequence[int]) -> set[int | None]:
        """Returns the steps to keep."""
        return {*sorted(steps)[-LATEST_KEPT:], self.best_step}

    def set_aside(self, step: int) -> Path:
        """Moves a checkpoint to the workdir's `checkpoints_unreadable/`; returns its new path."""
        folder = self.folder.with_name("checkpoints_unreadable")
        target, number = folder / str(step), 1
        while target.exists():
            number += 1
            target = folder / f"{step}_{number}"
        multihost_utils.sync_global_devices("chose a target")
        if jax.process_index() == 0:
            folder.mkdir(exist_ok=True)
            (self.folder / str(step)).rename(target)
        multihost_utils.sync_global_devices("moved")
        self._writer.reload()
        self._scores.pop(step, None)
        return target

    def close(self) -> None:
        """Waits until everything is on disk."""
        super().close()
        with self._writing():
            self._writer.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax passes on any exception of the file system's driver
            full = "No space left" in str(error) or "Disk quota" in str(error)
            why = "the disk is full" if full else first_line(error)
            fix = "Free disk space" if full else "Fix the cause"
            raise SaveError(
                f"{self.folder}: a checkpoint could not be written: {why}. Earlier checkpoints are "
                f"intact. {fix}, then rerun the same command to resume"
            ) from error


@dataclasses.dataclass(frozen=True)
class _Preservation:
    """An Orbax PreservationPolicy; `max_to_keep` with `best_fn` would delete the latest step."""

    checkpoints: Checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        kept = self.checkpoints.kept([info.step for info in checkpoints])
        return [info.step in kept for info in checkpoints]
