"""Reads the newest or the best checkpoint and falls back to the next if it is damaged."""

import logging
from collections.abc import Callable
from typing import TypeVar

from lts_jax.errors import ConfigError, UnreadableCheckpointError
from lts_jax.state.checkpoint_reader import CheckpointReader
from lts_jax.state.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

T = TypeVar("T")


def read_newest(checkpoints: Checkpoints, read: Callable[[int], T]) -> tuple[int, T] | None:
    """Reads the newest readable checkpoint; moves newer, damaged ones aside with a warning.

    They are not deleted, because the cause may be the disk or this program.

    Args:
      checkpoints: checkpoints of the run to resume.
      read: reads a step; raises UnreadableCheckpointError.

    Returns:
      The step and the result of `read`, or None if there are no checkpoints.

    Raises:
      ConfigError: there are checkpoints, but none is readable; they are not moved.
    """
    damaged: list[int] = []
    for step in reversed(checkpoints.steps):
        try:
            restored = read(step)
        except UnreadableCheckpointError as error:
            logger.warning(str(error))
            damaged.append(step)
            continue
        for newer in damaged:
            target = checkpoints.set_aside(newer)
            logger.warning("resuming from step %d; step %d was moved to %s", step, newer, target)
        return step, restored
    if damaged:
        raise ConfigError(
            f"{checkpoints.folder}: no checkpoint can be read, see above. Restore one from a "
            "backup, or use another --workdir"
        )
    return None


def read_chosen(
    checkpoints: CheckpointReader, step: int | None, read: Callable[[int], T]
) -> tuple[int, T]:
    """Reads a step or, if None, the best readable one, with a warning about unreadable ones.

    Args:
      checkpoints: checkpoints of a run.
      step: the requested step, or None.
      read: reads a step; raises UnreadableCheckpointError.

    Returns:
      The step and the result of `read`.

    Raises:
      UnreadableCheckpointError: the requested checkpoint cannot be read.
      ConfigError: there is no readable checkpoint.
    """
    first = checkpoints.choose(step)
    if step is not None:
        return first, read(first)
    for chosen in checkpoints.by_score():
        try:
            restored = read(chosen)
        except UnreadableCheckpointError as error:
            logger.warning(str(error))
            continue
        if chosen != first:
            logger.warning("using step %d, the next best", chosen)
        return chosen, restored
    listed = ", ".join(map(str, checkpoints.steps))
    raise ConfigError(
        f"{checkpoints.folder}: no evaluated checkpoint can be read (see above): restore one from "
        f"a backup, or set --checkpoint; available steps: {listed}"
    )
