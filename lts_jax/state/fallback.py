"""Reads the newest or the best checkpoint, or the next one if that is damaged."""

import logging
from collections.abc import Callable
from typing import TypeVar

from lts_jax.errors import ConfigError, UnreadableCheckpointError
from lts_jax.state.checkpoint_reader import CheckpointReader
from lts_jax.state.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

T = TypeVar("T")


def read_newest(checkpoints: Checkpoints, read: Callable[[int], T]) -> tuple[int, T] | None:
    """Reads the newest checkpoint that can be read, and sets newer ones aside, with a warning.

    They are moved and not deleted: what is wrong may be the disk, or this program.

    Args:
      checkpoints: of the run that resumes.
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
            logger.warning(str(error))
            damaged.append(step)
            continue
        for newer in damaged:
            place = checkpoints.set_aside(newer)
            logger.warning("going on from step %d; step %d was moved to %s", step, newer, place)
        return step, found
    if damaged:
        raise ConfigError(
            f"{checkpoints.folder}: no checkpoint can be read, see above. Put one back from a "
            "copy, or take another --workdir"
        )
    return None


def read_chosen(
    checkpoints: CheckpointReader, step: int | None, read: Callable[[int], T]
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
    if step is not None:
        return first, read(first)
    for chosen in checkpoints.by_score():
        try:
            found = read(chosen)
        except UnreadableCheckpointError as error:
            logger.warning(str(error))
            continue
        if chosen != first:
            logger.warning("taking step %d, the next best", chosen)
        return chosen, found
    listed = ", ".join(map(str, checkpoints.steps))
    raise ConfigError(
        f"{checkpoints.folder}: what was evaluated cannot be read (see above): put one back from "
        f"a copy, or give --checkpoint; there are {listed}"
    )
