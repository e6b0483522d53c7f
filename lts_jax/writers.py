"""What a run writes beside its checkpoints."""

import contextlib
import fcntl
import json
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
        picture.save(temporary, format="PNG")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a whole compressed .npz or none."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a name to write to; what was written whole takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of its own for each process and machine: others may be writing the same.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def only_run_in(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds it against other runs; the system frees it if this one dies.

    Raises:
      ConfigError: another run holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another run is at work in {workdir}: wait for it, end it, or take another "
                "--workdir"
            ) from None
        yield


class MetricWriter:
    """Scalars by step, to TensorBoard and to `metrics.jsonl`, one line a call.

    Args:
      workdir: where both are written.
      start_step: the step that the run goes on from; what was logged later is dropped, as those
        steps are taken again.
    """

    def __init__(self, workdir: Path, start_step: int):
        # Late: it imports torch where that is installed, which takes seconds.
        import tensorboardX

        path = workdir / "metrics.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= start_step:
                        kept.append(line + "\n")
                except json.JSONDecodeError:
                    break  # the last line of a killed run
        path.write_text("".join(kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._board = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start_step + 1
        )

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs scalars at a step."""
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._board.close()


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
