"""Notices that a training has diverged, and that a saved state is not what it was."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lts_jax import sharding
from lts_jax.errors import NonFiniteLossError

# Steps that may wait for the device: it never idles, and the end of a run is never far.
_IN_FLIGHT = 2


class LossGuard:
    """Looks at the losses of every step, though they are fetched only now and then.

    Args:
      sent_ids: gives the sentences of a step's batch.
      last_good: gives the step of the newest checkpoint.
    """

    def __init__(
        self, sent_ids: Callable[[int], Sequence[int]], last_good: Callable[[], int | None]
    ):
        self._sent_ids, self._last_good = sent_ids, last_good
        self._steps: list[int] = []
        self._losses: list[dict[str, jax.Array]] = []

    def add(self, step: int, losses: dict[str, jax.Array]) -> None:
        """Notes a step's losses where they are, on the device."""
        self._steps.append(step)
        self._losses.append(losses)
        if len(self._losses) > _IN_FLIGHT:
            jax.block_until_ready(self._losses[-1 - _IN_FLIGHT])

    def check(self) -> dict[str, float]:
        """Fetches what was noted and returns the losses of the newest step.

        Raises:
          NonFiniteLossError: a loss or the gradient of a step is not finite.
        """
        scalars: dict[str, float] = {}
        for step, losses in zip(self._steps, jax.device_get(self._losses), strict=True):
            scalars = {name: float(value) for name, value in losses.items()}
            for name, value in scalars.items():
                if not math.isfinite(value):
                    saved = self._last_good()
                    kept = f"the last good checkpoint is step {saved}" if saved else "nothing saved"
                    ids = " ".join(map(str, self._sent_ids(step)))
                    raise NonFiniteLossError(
                        f"{name} is {value} at step {step}; {kept}. Start again with a lower "
                        f"train.learning_rate and another --workdir. sent_ids of the batch: {ids}"
                    )
        self._steps, self._losses = self._steps[-1:], self._losses[-1:]
        return scalars


class Fingerprint(NamedTuple):
    """Whether all numbers of some arrays are finite, and a checksum of their bits, below 2**32."""

    finite: bool
    checksum: int


def fingerprint(tree: Any) -> Fingerprint:
    """Looks at every number of a tree of arrays.

    The checksum is a sum of whole numbers, the same however the arrays are split over devices; a
    change of any one word changes it, as each is multiplied by an odd number, modulo 2**32.
    """
    # By the host: the programs would take half a minute to compile for the full network.
    finite, total = True, 0
    for i, x in enumerate(jax.tree.leaves(tree)):
        for start, part in _parts(x):
            finite = finite and bool(np.isfinite(part).all())
            total += (2 * i + 1) * _checksum(part, start, np.shape(x))
    found = {
        "bad": np.array(not finite, np.uint32),
        "total": np.array(total % 2**32, np.uint32),  # sums wrap around, as the checksum does
    }
    # Else each process holds all of it.
    if not all(getattr(x, "is_fully_addressable", True) for x in jax.tree.leaves(tree)):
        found = sharding.sum_over_processes(found)
    return Fingerprint(not int(found["bad"]), int(found["total"]))


def _parts(x: Any) -> Iterator[tuple[list[int], np.ndarray]]:
    """Where each part of an array begins, and the part: of all processes together each once."""
    if not isinstance(x, jax.Array):
        yield [0] * np.ndim(x), np.asarray(x)
        return
    for shard in x.addressable_shards:
        if shard.replica_id == 0:
            yield [axis.start or 0 for axis in shard.index], np.asarray(shard.data)


def _checksum(part: np.ndarray, start: Sequence[int], shape: Sequence[int]) -> int:
    """The sum of a part's words, each times twice its number in the whole array plus one."""
    number: Any = np.zeros((), np.uint32)
    stride = 1
    for axis in reversed(range(part.ndim)):
        along = np.arange(start[axis], start[axis] + part.shape[axis], dtype=np.uint32)
        number = number + np.uint32(stride) * along.reshape(-1, *[1] * (part.ndim - 1 - axis))
        stride *= shape[axis]
    words = part.view(np.uint32) if part.itemsize == 4 else part.astype(np.uint32)
    return int((words * (2 * number + 1)).sum(dtype=np.uint32))
