"""Files that appear complete or not at all, and the lock of a folder."""

import contextlib
import errno
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from lts_jax.errors import ConfigError

logger = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """Returns `lts_jax` in `$XDG_CACHE_HOME` or `~/.cache`; None for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lts_jax"
    except RuntimeError:  # neither HOME nor an entry in the system's list of users
        return None


def write_json(path: Path, value: Any) -> None:
    """Writes a whole file or none: a killed run leaves no half of it."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    r"""Writes a whole UTF-8 file or none; a file name that is no text is in it as `\udcff`."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_picture(path: Path, picture: Image.Image) -> None:
    """Writes a whole PNG or none."""
    with whole_file(path) as temporary:
        # A tenth larger than by PIL's own level, 6, and five times faster: a photo takes long.
        picture.save(temporary, format="PNG", compress_level=1)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a whole compressed .npz or none."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path; atomically replaces `path` on success.

    The temporary path is this call's alone: other processes may be writing the same file. Write to
    it by `open`, so that the file gets the permissions that the user's umask says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    try:
        with name_in_errors(path):
            yield temporary
            temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a new temporary folder, which becomes `path` on success.

    Raises:
      FileExistsError: `path` is a folder that is not empty.
    """
    temporary = path.with_name(temporary_name(path.name))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(path)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_inside(folder: Path, path: Path) -> None:
    """Raises ConfigError where links in a run's folder lead what is written out of it."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{path} leads out of {folder}, to {path.resolve()}: replace the link by a folder"
        )


def temporary_name(name: str) -> str:
    """Returns a hidden name that no other process has."""
    return f".{shorten(name, 200)}.{uuid.uuid4().hex[:12]}.tmp"


def shorten(name: str, size: int) -> str:
    """Cuts a name to at most `size` bytes: most file systems take 255."""
    while len(os.fsencode(name)) > size:
        name = name[:-1]
    return name


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
def only_run_in(workdir: Path, flag: str = "--workdir") -> Iterator[None]:
    """Makes the folder and locks it; the system frees the lock if this process dies.

    Args:
      workdir: the folder.
      flag: that named it.

    Raises:
      ConfigError: another run holds it, or it cannot be written.
    """
    check_inside(workdir, workdir / ".lock")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / ".lock").touch()
    except OSError as error:
        raise ConfigError(
            f"{flag} {workdir} cannot be written ({error.strerror}): take another folder"
        ) from error
    # A soft lock, the fallback, would outlive a killed run.
    lock = FileLock(workdir / ".lock", timeout=0, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except Timeout:
            raise ConfigError(
                f"another run is at work in {workdir}: wait for it, end it, or take another {flag}"
            ) from None
        except OSError as error:  # for example Lustre mounted without -o flock
            logger.warning(
                "%s: its file system has no locks (%s): make sure that no other run works there",
                workdir,
                error.strerror,
            )
        yield
