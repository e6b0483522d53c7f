"""Memory in pages of 2 MB, where Linux gives them only to those who ask.

On a CPU, XLA takes a step's memory from the C library and returns it behind the step, and the
kernel clears every page again at its first touch: hundreds of thousands of 4 kB in each step of
the full network. The C library asks for large pages itself where a variable tells it to before the
process starts. docs/performance.md has the measurements.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

_NAME = "GLIBC_TUNABLES"
_ASK = "glibc.malloc.hugetlb=1"
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def environment(given: Mapping[str, str]) -> dict[str, str] | None:
    """Returns the environment to start again in; None where there is nothing to gain.

    That is where the C library is not glibc 2.35 or later, where the kernel gives large pages to
    all or to none, and where `given` says something of them already.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return None
    version = re.findall(r"\d+", os.confstr("CS_GNU_LIBC_VERSION") or "")
    if tuple(map(int, version)) < (2, 35):
        return None
    tunables = given.get(_NAME, "")
    try:
        asked_only = "[madvise]" in _SETTING.read_text(encoding="ascii")
    except OSError:  # a kernel without them
        return None
    if not asked_only or "glibc.malloc.hugetlb" in tunables:
        return None
    return {**given, _NAME: f"{tunables}:{_ASK}" if tunables else _ASK}


def start_again() -> None:
    """Starts this very command again in `environment`, as the same process; once at most."""
    asking = environment(os.environ)
    if asking is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], asking)
