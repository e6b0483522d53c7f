"""Finds the checkpoint that a run goes on from."""

import sys
from collections.abc import Callable
from typing import TypeVar

from lts_jax.checkpointing import Checkpoints
from lts_jax.errors import ConfigError, UnreadableCheckpointError

T = TypeVar("T")


def read_newest(checkpoints: Checkpoints, read: Callable[[int], T]) -> tuple[int, T] | None:
    """Reads the newest checkpoint that can be read, and sets newer ones aside, with a warning.

    They are moved and not deleted: what is wrong may be the disk, or this program.

    Args:
      checkpoints: of the run that goes on.
      read: reads a step; raises UnreadableCheckpointError.

    Returns:
      The step, and what `read` gave; None where there is no checkpoint at all.

    Raises:
      ConfigError: there are checkpoints, and none can be read; they stay where they are.
    """
    damaged: list[int] = []
    for step in reversed(checkpoints.steps):
        try:
            found = read(step)
        except UnreadableCheckpointError as error:
            _warn(str(error))
            damaged.append(step)
            continue
        for newer in damaged:
            place = checkpoints.set_aside(newer)
            _warn(f"going on from step {step}; step {newer} was moved to {place}")
        return step, found
    if damaged:
        raise ConfigError(
            f"{checkpoints.folder}: no checkpoint can be read, see above. Put one back from a "
            "copy, or take another --workdir"
        )
    return None


def _warn(message: str) -> None:
    print(f"WARNING: {message}", file=sys.stderr, flush=True)
