"""What a run writes beside its checkpoints."""

import contextlib
import fcntl
import json
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lts_jax.errors import ConfigError


def write_json(path: Path, value: Any) -> None:
    """Writes a whole file or none: a killed run leaves no half of it."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a whole UTF-8 file or none."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_picture(path: Path, picture: Image.Image) -> None:
    """Writes a whole PNG or none."""
    with whole_file(path) as temporary:
        # A tenth larger than by PIL's own level, 6, and five times faster: a photo takes long.
        picture.save(temporary, format="PNG", compress_level=1)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], shared: bool = False) -> None:
    """Writes a whole compressed .npz or none; `shared` as in `whole_file`."""
    with whole_file(path, shared) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@contextlib.contextmanager
def whole_file(path: Path, shared: bool = False) -> Iterator[Path]:
    """Gives a name to write to; what was written whole takes the place of `path`.

    Args:
      path: of the file.
      shared: other processes may be writing the same file: the name is then of this one alone.
        Else what a killed process has left is written over by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f".{uuid.uuid4().hex[:12]}" if shared else ""
    temporary = path.with_name(f".{path.name}{own}.tmp")
    try:
        with _naming(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Names the file in the errors of writing it, which a full disk's do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def only_run_in(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds it against other runs; the system frees it if this one dies.

    Raises:
      ConfigError: another run holds it, or it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / ".lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"--workdir {workdir} cannot be written ({error.strerror}): take another folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another run is at work in {workdir}: wait for it, end it, or take another "
                "--workdir"
            ) from None
        except OSError as error:  # as Lustre without -o flock
            print(
                f"WARNING: {workdir}: its file system has no locks ({error.strerror}): see to it "
                "that no other run works there",
                file=sys.stderr,
                flush=True,
            )
        yield


class MetricWriter:
    """Scalars by step, to TensorBoard and to `metrics.jsonl`, one line a call.

    Both have each step once, however often a run was stopped: what was logged later than where it
    goes on from is dropped, as those steps are taken again. TensorBoard does so when it reads.

    Args:
      workdir: where both are written.
      start_step: the step that the run goes on from. What was logged at it is not logged again: the
        run may have been killed in the middle of what it does there.
    """

    def __init__(self, workdir: Path, start_step: int):
        # Late: it imports torch where that is installed, which takes seconds.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._path = workdir / "metrics.jsonl"
        kept = [x for x in _read_log(self._path) if x["step"] <= start_step]
        write_text(self._path, "".join(json.dumps(scalars) + "\n" for scalars in kept))
        self._file = self._path.open("a", encoding="utf-8")
        # Not SummaryWriter: when its thread dies, of a full disk, its queue blocks for ever.
        (workdir / "tensorboard").mkdir(exist_ok=True)
        self._board = EventsWriter(str(workdir / "tensorboard" / "events"))
        self._board.write_event(
            Event(step=start_step, session_log=SessionLog(status=SessionLog.START))
        )
        self._start: tuple[int, set[str]] = start_step, set()
        for scalars in kept:  # the START drops the events of the start step too
            if scalars.pop("step") == start_step:
                self._start[1].update(scalars)
                self._tell_board(start_step, scalars)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs scalars at a step."""
        if step == self._start[0] and self._start[1].issuperset(scalars):
            return
        with _naming(self._path):
            self._file.write(json.dumps({"step": step, **scalars}) + "\n")
            self._file.flush()
        self._tell_board(step, scalars)

    def _tell_board(self, step: int, scalars: Mapping[str, float]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        with _naming(self._path.with_name("tensorboard")):
            for name, value in scalars.items():
                self._board.write_event(
                    Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                )
            self._board.flush()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        for file in (self._file, self._board):
            with contextlib.suppress(OSError):  # each write was flushed, or has said so
                file.close()


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, without the half of one that a killed run has left."""
    if not path.exists():
        return []
    kept, bad = [], []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            scalars = json.loads(line)
            int(scalars["step"])  # raises where there is none
            kept.append(scalars)
        except (ValueError, TypeError, KeyError):
            bad.append(number)
    if bad and bad != [len(lines)]:
        listed = ", ".join(map(str, bad))
        print(
            f"WARNING: {path}: no metrics in line {listed}: left out", file=sys.stderr, flush=True
        )
    return kept


class NoWriter(MetricWriter):
    """Writes nothing: of several processes, one does."""

    def __init__(self) -> None:
        pass

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Does nothing."""

    def __exit__(self, *exc: object) -> None:
        pass


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligns columns, the first to the left and the others to the right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
