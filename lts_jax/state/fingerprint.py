"""Checksums and plausibility checks of a checkpoint's contents."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lts_jax.distributed import processes

LARGEST = 1e9
"""Upper bound for the parameters and statistics of a trained network."""


class Fingerprint(NamedTuple):
    """Summary of a tree of arrays.

    Attributes:
      finite: whether all numbers are finite.
      checksum: checksum of their bits, below 2**32.
      plausible: whether all numbers are between -LARGEST and LARGEST.
    """

    finite: bool
    checksum: int
    plausible: bool


def fingerprint(tree: Any) -> Fingerprint:
    """Computes the fingerprint of a tree of arrays.

    The checksum is an integer sum modulo 2**32, independent of how the arrays are split over
    devices. Each word is multiplied by an odd number, so that changing one word changes the sum.
    """
    # Computed on the host: compiling it for the full network would take half a minute.
    finite, plausible, total = True, True, 0
    for i, x in enumerate(jax.tree.leaves(tree)):
        for start, part in _parts(x):
            finite = finite and bool(np.isfinite(part).all())
            if part.size and np.issubdtype(part.dtype, np.floating):
                plausible = plausible and bool(part.min() >= -LARGEST and part.max() <= LARGEST)
            total += (2 * i + 1) * _checksum(part, start, np.shape(x))
    sums = {
        "non_finite": np.array(not finite, np.uint32),
        "implausible": np.array(not plausible, np.uint32),
        "total": np.array(total % 2**32, np.uint32),  # wraps around like the checksum
    }
    # Otherwise each process has all arrays.
    if not all(getattr(x, "is_fully_addressable", True) for x in jax.tree.leaves(tree)):
        sums = processes.sum_over_processes(sums)
    plausible = not int(sums["implausible"])
    return Fingerprint(not int(sums["non_finite"]), int(sums["total"]), plausible)


def json_checksum(value: Any) -> str:
    """Returns the SHA-256 of a value's JSON; the order of fields does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _parts(x: Any) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yields the start and the data of local parts; over all processes, each part occurs once."""
    if not isinstance(x, jax.Array):
        yield [0] * np.ndim(x), np.asarray(x)
        return
    for shard in x.addressable_shards:
        if shard.replica_id == 0:
            yield [axis.start or 0 for axis in shard.index], np.asarray(shard.data)


def _checksum(part: np.ndarray, start: Sequence[int], shape: Sequence[int]) -> int:
    """Returns the sum of a part's words, each times 2 i + 1 with its index i in the full array."""
    number: Any = np.zeros((), np.uint32)
    stride = 1
    for axis in reversed(range(part.ndim)):
        along = np.arange(start[axis], start[axis] + part.shape[axis], dtype=np.uint32)
        number = number + np.uint32(stride) * along.reshape(-1, *[1] * (part.ndim - 1 - axis))
        stride *= shape[axis]
    words = part.view(np.uint32) if part.itemsize == 4 else part.astype(np.uint32)
    return int((words * (2 * number + 1)).sum(dtype=np.uint32))
