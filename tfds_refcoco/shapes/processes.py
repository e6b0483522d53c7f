"""Generates scenes, which are independent of each other, in several processes."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from tfds_refcoco.shapes.entries import make_scene
from tfds_refcoco.shapes.scene import OBJECTS

_ENOUGH = 500
"""Minimum number of scenes per process: 4 s of work for 1 s of startup."""


def make_scenes(image_dir: Path, seed: int, scenes: Mapping[str, int]) -> Generator[str]:
    """Generates scenes in several processes if worthwhile; yields `make_scene`'s lines in order.

    Args:
        image_dir: output folder of the images.
        seed: seed of the dataset.
        scenes: number of scenes by split.

    Raises:
        OSError: an image cannot be written.
    """
    count = min(_cores(), sum(scenes.values()) // _ENOUGH)
    if count < 2:
        for split, number in in_order(scenes):
            yield make_scene(image_dir, seed, split, number)
        return
    task = {"image_dir": str(image_dir), "seed": seed, "scenes": dict(scenes), "count": count}
    with contextlib.ExitStack() as stack:
        parts = [stack.enter_context(_started({**task, "first": i})) for i in range(count)]
        for part, _ in zip(itertools.cycle(parts), in_order(scenes), strict=False):
            line = cast(IO[str], part.stdout).readline()
            if not line:
                raise OSError(f"{image_dir}: a worker process failed; see the error above.")
            yield line


def in_order(scenes: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yields the split and number of each scene."""
    for split in OBJECTS:
        for number in range(scenes.get(split, 0)):
            yield split, number


def _cores() -> int:
    """Returns the number of cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _started(task: Mapping[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """Runs a worker process, which is killed at the end of the block."""
    # multiprocessing would import the main module again, with JAX, and run unguarded scripts. The
    # worker has a new session so that Ctrl-C does not reach it.
    command = [sys.executable, "-m", "tfds_refcoco.shapes", json.dumps(task)]
    path = os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
    environment = {**os.environ, "PYTHONPATH": path}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
