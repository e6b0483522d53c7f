"""Records the versions, devices and source revision of a run."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from lts_jax.experiment import arithmetic
from lts_jax.io.console import VERSION

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "opencv-python-headless",
    "tensorflow-datasets",
)


def describe() -> dict[str, Any]:
    """Returns `versions`, `devices`, `arithmetic` and `git`."""
    device = jax.devices()[0]
    return {
        "versions": {
            "python": platform.python_version(),
            "lts_jax": VERSION,
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "devices": f"{jax.device_count()} × {device.device_kind} ({device.platform})"
        + (f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""),
        "arithmetic": arithmetic.describe(),
        "git": git(Path(__file__).parent),
    }


@functools.cache
def git(folder: Path) -> dict[str, Any]:
    """Returns the `revision` of a checkout, and whether tracked files are modified (`dirty`).

    If git does not track the folder, as for an installed package, both are read from
    LTS_GIT_REVISION, in the form of `git describe --dirty`. Without it, they are "unknown" and
    None.
    """

    def run(*args: str) -> str:
        command = ["git", "-C", str(folder), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        run("ls-files", "--error-unmatch", "__init__.py")
        dirty = bool(run("status", "--porcelain", "--untracked-files=no"))
        return {"revision": run("rev-parse", "HEAD"), "dirty": dirty}
    except (OSError, subprocess.CalledProcessError):
        revision = os.environ.get("LTS_GIT_REVISION", "unknown")
        known = None if revision == "unknown" else revision.endswith("-dirty")
        return {"revision": revision.removesuffix("-dirty"), "dirty": known}
