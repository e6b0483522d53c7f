"""Describes the machine of a measurement."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def cpu_name() -> str:
    """Returns the CPU model."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def load_average() -> float:
    """Returns the average number of runnable processes over the last minute."""
    return os.getloadavg()[0]


def describe(packages: Sequence[str]) -> dict[str, Any]:
    """Returns the CPU model, the number of cores, the date, and versions of Python and packages.

    `glibc_tunables` is the environment variable GLIBC_TUNABLES, "" if unset: huge pages affect the
    speed on CPUs, see docs/performance.md.
    """
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "cpu": cpu_name(),
        "cpu_cores": os.cpu_count(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "versions": {"python": platform.python_version(), **versions},
    }
