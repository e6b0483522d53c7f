"""A copy of the repository, for tests that install or change it."""

import shutil
import subprocess
from pathlib import Path

_NOT_COPIED = (
    ".git",
    "build",
    "data",
    "raw",
    "runs",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
)


def copy_repository(root: Path, destination: Path) -> Path:
    """Copies what git lists, or without git all but caches and outputs; returns `destination`."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # an archive, or another user's folder

        def ignore(folder: str, names: list[str]) -> set[str]:
            outputs = set(_NOT_COPIED) if Path(folder) == root else set()
            return {n for n in names if n in outputs or n == "__pycache__"}

        shutil.copytree(root, destination, symlinks=True, ignore=ignore, dirs_exist_ok=True)
        return destination
    for name in filter(None, done.stdout.split("\0")):
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, destination / name, follow_symlinks=False)
    return destination
