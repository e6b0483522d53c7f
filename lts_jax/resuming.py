"""Finds the checkpoint that a run goes on from, or is used with."""

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


def read_best(
    checkpoints: Checkpoints, step: int | None, read: Callable[[int], T]
) -> tuple[int, T]:
    """Reads a step; where None the best one that can be read, with a warning of those before it.

    Args:
      checkpoints: of a run.
      step: that was asked for.
      read: reads a step; raises UnreadableCheckpointError.

    Returns:
      The step, and what `read` gave.

    Raises:
      UnreadableCheckpointError: the one that was asked for cannot be read.
      ConfigError: there is none, or none can be read.
    """
    first = checkpoints.choose(step)
    steps = [first] if step is not None else checkpoints.by_score()
    for chosen, other in zip(steps, [*steps[1:], None], strict=True):
        try:
            return chosen, read(chosen)
        except UnreadableCheckpointError as error:
            if step is not None:
                raise
            if other is None:
                listed = ", ".join(map(str, checkpoints.steps))
                raise ConfigError(
                    f"{error}. No other that was evaluated can be read: put it back from a copy, "
                    f"or give --checkpoint; there are {listed}"
                ) from error
            _warn(f"{error}; taking step {other}, the next best")
    raise AssertionError("there is a first one, or choose raises")


def _warn(message: str) -> None:
    print(f"WARNING: {message}", file=sys.stderr, flush=True)
