"""Checkpoints of everything that a run needs to go on, by Orbax."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from lts_jax.errors import ConfigError, NonFiniteLossError, SaveError, UnreadableCheckpointError
from lts_jax.guards import fingerprint
from lts_jax.sharding import heard
from lts_jax.steps import TrainState
from lts_jax.writers import write_json

BEST_METRIC = "oiou"
LATEST_KEPT = 2  # the second is for the day on which the first is damaged
_JSON_ITEMS = ("config", "data", "vocabulary", "weights", "checksums")
_NETWORK = ("step", "params", "batch_stats")  # of a TrainState
# In older checkpoints, whose first weights were random.
_ABSENT: dict[str, Any] = {"weights": {}, "checksums": {}}


class Checkpoints:
    """The checkpoints of a workdir: the latest two, and the one with the best oIoU.

    Each holds the training state, the data iterator, the config, what the data was, the
    vocabulary's words, where the first weights came from and, once evaluated, its metrics. Leaving
    the context waits until everything is on disk.

    Args:
      workdir: of the run.
      clean: remove what an interrupted save has left. Only the run that holds the workdir may.

    Attributes:
      folder: of the checkpoints.
    """

    def __init__(self, workdir: Path, *, clean: bool = False):
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self,
            cleanup_tmp_directories=clean,
            lightweight_initialize=True,  # reads nothing: what it reads may be damaged
        )
        self.folder = (workdir / "checkpoints").resolve()
        items: dict[str, Any] = {
            "item_names": ("state", "iterator", *_JSON_ITEMS),
            "item_handlers": {"iterator": grain.checkpoint.CheckpointHandler()},
        }
        self._manager = ocp.CheckpointManager(self.folder, options=options, **items)
        self._reader = self._manager
        if jax.process_count() > 1:
            # Each process reads for itself: in Orbax's own way, one that cannot leaves the others
            # waiting for it.
            me = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(
                primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"reader {me}"
            )
            options = ocp.CheckpointManagerOptions(
                create=False,
                enable_async_checkpointing=False,
                lightweight_initialize=True,
                multiprocessing_options=alone,
            )
            self._reader = ocp.CheckpointManager(self.folder, options=options, **items)
        read = {step: _read_score(self.folder / str(step)) for step in self.steps}
        self._scores = {step: score for step, score in read.items() if score is not None}

    @property
    def steps(self) -> list[int]:
        """All steps, increasing."""
        return sorted(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """The newest step, or None where there is no checkpoint."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The newest of the steps with the best metric, or None where none was evaluated."""
        return next(iter(self.by_score()), None)

    def by_score(self) -> list[int]:
        """The steps that were evaluated, those with the best metric first, of these the newest."""
        scored = [step for step in self.steps if step in self._scores]
        return sorted(scored, key=lambda step: (self._scores[step], step), reverse=True)

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._manager.is_saving_in_progress()

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

    def scored(self, step: int) -> bool:
        """Whether a checkpoint has been evaluated."""
        return step in self._scores

    def save(
        self,
        step: int,
        state: TrainState,
        iterator: grain.DatasetIterator,
        run: dict[str, Any],
        words: list[str],
    ) -> None:
        """Writes a checkpoint in the background; an interrupted one is never taken for whole.

        Args:
          step: training steps taken.
          state: the training state.
          iterator: of the training batches; it must stand right behind the step's batch.
          run: of which `config`, `data` and `weights` are kept, see
            `lts_jax.experiment.describe_run`.
          words: of the vocabulary, in order.

        Raises:
          NonFiniteLossError: the state holds numbers that are not finite; nothing is written.
          SaveError: this or the checkpoint before it could not be written.
        """
        # Two, as what evaluates reads no more than the network.
        network, optimizer = fingerprint(state.network()), fingerprint(state.opt_state)
        if not (network.finite and optimizer.finite):
            raise NonFiniteLossError(
                f"the parameters, statistics or moments are not finite after step {step}; the last "
                f"good checkpoint is step {self.latest_step}. Start again with a lower "
                "train.learning_rate and another --workdir."
            )
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            iterator=grain.checkpoint.CheckpointSave(iterator),
            config=ocp.args.JsonSave(run["config"]),
            data=ocp.args.JsonSave(run["data"]),
            vocabulary=ocp.args.JsonSave(words),
            weights=ocp.args.JsonSave(run["weights"]),
            checksums=ocp.args.JsonSave(
                {"network": network.checksum, "optimizer": optimizer.checksum}
            ),
        )
        with self._writing():
            self._manager.save(step, args=args)

    def score(self, step: int, metrics: dict[str, Any]) -> None:
        """Adds the metrics, by which the best is chosen, to a checkpoint; the others may go.

        Raises:
          SaveError: the checkpoint could not be written.
        """
        with self._writing():
            self._manager.wait_until_finished()
            if jax.process_index() == 0:
                write_json(self.folder / str(step) / "metrics" / "metrics", metrics)
            self._scores[step] = metrics[BEST_METRIC]
            for old in sorted(set(self.steps) - self._kept(self.steps)):
                self._manager.delete(old)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Orbax's PreservationPolicy; `max_to_keep` with `best_fn` would delete the latest step."""
        kept = self._kept([info.step for info in checkpoints])
        return [info.step in kept for info in checkpoints]

    def _kept(self, steps: Sequence[int]) -> set[int | None]:
        return {*sorted(steps)[-LATEST_KEPT:], self.best_step}

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax hands through whatever the file system's driver raised
            full = "No space left" in str(error) or "Disk quota" in str(error)
            why = "the disk is full" if full else _first_line(error)
            mend = "with room for another" if full else "with that mended"
            raise SaveError(
                f"{self.folder}: a checkpoint could not be written: {why}. The ones before it are "
                f"whole; {mend} the same command goes on from there"
            ) from error

    def set_aside(self, step: int) -> Path:
        """Moves a checkpoint to `checkpoints_unreadable/` of the workdir; returns where it is."""
        folder = self.folder.with_name("checkpoints_unreadable")
        place, number = folder / str(step), 1
        while place.exists():
            number += 1
            place = folder / f"{step}_{number}"
        multihost_utils.sync_global_devices("found a place")
        if jax.process_index() == 0:
            folder.mkdir(exist_ok=True)
            (self.folder / str(step)).rename(place)
        multihost_utils.sync_global_devices("set aside")
        self._manager.reload()
        self._scores.pop(step, None)
        return place

    def read_run(self, step: int) -> dict[str, Any]:
        """Returns what a checkpoint was made with.

        That is `config`, `data`, `vocabulary`, `weights`: what gave the first weights, `{}` where
        all were random, and `checksums` of the state, see `lts_jax.guards.fingerprint`.
        """
        return self._read_json(step, _JSON_ITEMS)

    def _read_json(self, step: int, wanted: Sequence[str]) -> dict[str, Any]:
        folder = self.folder / str(step)
        names = [name for name in wanted if name not in _ABSENT or (folder / name).exists()]
        items = {name: ocp.args.JsonRestore() for name in names}
        restored = self._restore(step, ocp.args.Composite(**items)) if names else {}
        return {name: restored[name] if name in names else _ABSENT[name] for name in wanted}

    def restore_state(self, step: int, abstract_state: TrainState) -> TrainState:
        """Reads a state into the shapes, dtypes and shardings of `abstract_state`.

        Raises:
          UnreadableCheckpointError: it is damaged, or another network's.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        state: TrainState = self._restore(step, args)["state"]
        self._check(step, {"network": state.network(), "optimizer": state.opt_state})
        return state

    def _check(self, step: int, parts: dict[str, Any]) -> None:
        """Raises UnreadableCheckpointError where a part is not what was saved."""
        saved = self._read_json(step, ["checksums"])["checksums"]
        for name, part in parts.items():
            said = ""
            if name in saved and saved[name] != fingerprint(part).checksum:
                folder = self.folder / str(step)
                said = f"checkpoint {folder} is damaged: its {name} has another checksum"
            if said := heard(said):
                raise UnreadableCheckpointError(said)

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
        self._check(step, {"network": network})
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
        self._check(step, {"network": TrainState(**network, opt_state=())})
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

    def _restore(self, step: int, args: ocp.args.Composite) -> Any:
        """Reads items, on all processes or on none."""
        said, cause, restored = "", None, None
        try:
            restored = self._reader.restore(step, args=args)
        except Exception as error:  # TensorStore's own are nothing more than that
            said, cause = _unreadable(self.folder / str(step), error), error
        if said := heard(said):
            raise UnreadableCheckpointError(said) from cause
        return restored

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: object) -> None:
        with self._writing():
            self._manager.close()


def _read_score(folder: Path) -> float | None:
    """The best metric that a checkpoint holds, or None where it was not evaluated."""
    path = folder / "metrics" / "metrics"
    try:
        return float(json.loads(path.read_text())[BEST_METRIC])
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, OSError) as error:
        print(f"WARNING: {_unreadable(path, error)}", file=sys.stderr, flush=True)
        return None


def _unreadable(path: Path, error: Exception) -> str:
    return f"checkpoint {path} cannot be read ({type(error).__name__}: {_first_line(error)})"


def _first_line(error: Exception) -> str:
    """What an error says, without what TensorStore adds about its own calls."""
    line = (str(error).splitlines() or [""])[0]
    return line.split(" [", 1)[0][:300]


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
