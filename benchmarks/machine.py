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


def describe(packages: Sequence[str]) -> dict[str, Any]:
    """Returns processor, cores, date and the versions of Python and of packages."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "cpu": cpu_name(),
        "cpu_cores": os.cpu_count(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **versions},
    }
