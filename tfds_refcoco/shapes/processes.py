"""Scenes by several processes, as a scene depends on no other."""

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
"""Scenes for a process of their own: 4 s of work, and 1 s to start."""


def make_scenes(image_dir: Path, seed: int, scenes: Mapping[str, int]) -> Generator[str]:
    """Makes scenes by as many processes as are worth it; yields `make_scene`'s lines in order.

    Args:
        image_dir: of the images.
        seed: of the set.
        scenes: number of scenes of each split.

    Raises:
        OSError: an image could not be written.
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
                raise OSError(f"{image_dir}: a process that makes scenes has died; see above.")
            yield line


def in_order(scenes: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yields split and number of each scene."""
    for split in OBJECTS:
        for number in range(scenes.get(split, 0)):
            yield split, number


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _started(task: Mapping[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """Runs one process, which does not outlive the block."""
    # Not by multiprocessing, whose processes import the main module again: all of JAX here, and a
    # script that does not guard itself runs. In a session of its own: Ctrl-C is not for it.
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
