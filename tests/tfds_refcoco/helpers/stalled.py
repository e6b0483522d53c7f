"""Builds in child processes that stall, so that tests can kill or interrupt them."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TIMEOUT = 300  # seconds; starting a process is slow on a busy machine

_CODE = """
import importlib, runpy, sys, time
name, function = sys.argv[1].rsplit(".", 1)
module = importlib.import_module(name)
original, calls = getattr(module, function), []
def stall(*args):
    calls.append(args)
    if len(calls) == 2:
        print("stalled", flush=True)
        time.sleep(600)
    return original(*args)
setattr(module, function, stall)
sys.argv[1:] = ["build", "--dataset", "refcoco_unc", "--raw", *sys.argv[2:]]
runpy.run_module("tfds_refcoco", run_name="__main__")
"""


@contextmanager
def stalled_build(root: Path, function: str, raw: Path, out: Path) -> Iterator[subprocess.Popen]:
    """Runs the build command, which stalls when it calls a function for the second time.

    Args:
      root: root of the repository.
      function: full name of the function, such as "tfds_refcoco.masks.area".
      raw: the raw folder of refcoco_unc.
      out: output folder of the build.

    Yields:
      The stalled process, which is killed at the end of the block.
    """
    command = [sys.executable, "-c", _CODE, function, str(raw), "--out", str(out)]
    # A child inherits ignored signals: SIGINT is ignored in background jobs and under nohup.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        child = subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    watchdog = threading.Timer(TIMEOUT, child.kill)
    watchdog.start()
    with child:
        try:
            assert child.stdout is not None and child.stderr is not None
            assert child.stdout.readline() == "stalled\n", child.stderr.read()
            yield child
        finally:
            watchdog.cancel()
            child.kill()
