"""Files that appear complete or not at all, and the lock of a folder."""

import contextlib
import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from lts_jax.errors import ConfigError

logger = logging.getLogger(__name__)


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
    temporary.unlink(missing_ok=True)  # it may be a link to somewhere else
    try:
        with name_in_errors(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_inside(folder: Path, path: Path) -> None:
    """Raises ConfigError where links in a run's folder lead what is written out of it."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{path} leads out of {folder}, to {path.resolve()}: replace the link by a folder"
        )


@contextlib.contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Names the file in the errors of writing it, which a full disk's do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def only_run_in(workdir: Path) -> Iterator[None]:
    """Makes the folder and locks it; the system frees the lock if this process dies.

    Raises:
      ConfigError: another run holds it, or it cannot be written.
    """
    check_inside(workdir, workdir / ".lock")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / ".lock").touch()
    except OSError as error:
        raise ConfigError(
            f"--workdir {workdir} cannot be written ({error.strerror}): take another folder"
        ) from error
    # A soft lock, the fallback, would outlive a killed run.
    lock = FileLock(workdir / ".lock", timeout=0, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except Timeout:
            raise ConfigError(
                f"another run is at work in {workdir}: wait for it, end it, or take another "
                "--workdir"
            ) from None
        except OSError as error:  # for example Lustre mounted without -o flock
            logger.warning(
                "%s: its file system has no locks (%s): make sure that no other run works there",
                workdir,
                error.strerror,
            )
        yield
