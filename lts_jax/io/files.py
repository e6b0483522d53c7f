"""Atomic file writes and folder locks."""

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
    """Returns `lts_jax` in `$XDG_CACHE_HOME` or `~/.cache`; None if there is no home folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lts_jax"
    except RuntimeError:  # HOME is not set and the user is not in the system's user database
        return None


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    r"""Writes a UTF-8 file atomically; undecodable bytes of file names become `\udcff`."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_picture(path: Path, picture: Image.Image) -> None:
    """Writes a PNG file atomically."""
    with whole_file(path) as temporary:
        # 10 % larger and five times faster than PIL's default level, 6.
        picture.save(temporary, format="PNG", compress_level=1)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed .npz file atomically."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path; atomically replaces `path` on success.

    The temporary path is unique, because other processes may write the same file. Write to it with
    `open`, so that the file's permissions follow the umask.
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
      FileExistsError: `path` is a non-empty folder.
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
    """Raises ConfigError if a symbolic link makes `path` point outside `folder`."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{path} points outside {folder}, to {path.resolve()}: replace the link with a folder"
        )


def temporary_name(name: str) -> str:
    """Returns a unique hidden name."""
    return f".{shorten(name, 200)}.{uuid.uuid4().hex[:12]}.tmp"


def shorten(name: str, size: int) -> str:
    """Cuts a name to at most `size` bytes: most file systems allow 255."""
    while len(os.fsencode(name)) > size:
        name = name[:-1]
    return name


@contextlib.contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Adds the file name to OSErrors that lack it, such as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def only_run_in(workdir: Path, flag: str = "--workdir") -> Iterator[None]:
    """Creates a folder and locks it; the system releases the lock if this process dies.

    Args:
      workdir: the folder.
      flag: the flag that named it, for errors.

    Raises:
      ConfigError: another run holds the lock, or the folder is not writable.
    """
    check_inside(workdir, workdir / ".lock")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / ".lock").touch()
    except OSError as error:
        raise ConfigError(
            f"{flag} {workdir} is not writable ({error.strerror}): choose another folder"
        ) from error
    # A soft lock, the fallback, would outlive a killed run.
    lock = FileLock(workdir / ".lock", timeout=0, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except Timeout:
            raise ConfigError(
                f"another run is using {workdir}: wait for it, stop it, or choose another {flag}"
            ) from None
        except OSError as error:  # for example Lustre mounted without -o flock
            logger.warning(
                "%s: the file system does not support locks (%s): make sure that no other run uses "
                "this folder",
                workdir,
                error.strerror,
            )
        yield
