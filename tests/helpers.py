"""What the workers of pytest-xdist share."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object], *, copied: bool
) -> Path:
    """Makes a folder in the first worker that needs it.

    Args:
      factory: of temporary folders.
      name: of the folder.
      make: fills the folder.
      copied: each worker gets a copy of its own, to write to.
    """
    shared = factory.getbasetemp()
    if shared.name.startswith("popen-"):  # a worker's own, inside that of the session
        shared = shared.parent
    original, done = shared / f"{name}-original", shared / f"{name}-done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(original, ignore_errors=True)  # half made
            make(original)
            done.touch()
    if not copied:
        return original
    copy = factory.mktemp(name) / name
    shutil.copytree(original, copy)
    return copy
