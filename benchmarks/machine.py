"""What a measurement was made on."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def cpu_name() -> str:
    """Returns the processor's model."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def load_average() -> float:
    """Returns the average number of runnable processes over the last minute."""
    return os.getloadavg()[0]


def describe(packages: Sequence[str]) -> dict[str, Any]:
    """Returns the processor, the cores, the date, and the versions of Python and of packages.

    `glibc_tunables` is the environment's GLIBC_TUNABLES, "" if unset: huge pages change the speed
    of a CPU, see docs/performance.md.
    """
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "cpu": cpu_name(),
        "cpu_cores": os.cpu_count(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "versions": {"python": platform.python_version(), **versions},
    }
