"""Checksums of what a checkpoint holds, and whether its numbers make sense."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lts_jax.distributed import processes

LARGEST = 1e9
"""No parameter or statistic of a network that has learned anything is larger."""


class Fingerprint(NamedTuple):
    """What was seen of some arrays.

    Attributes:
      finite: whether all numbers are.
      checksum: of their bits, below 2**32.
      plausible: whether all numbers lie between -LARGEST and LARGEST.
    """

    finite: bool
    checksum: int
    plausible: bool


def fingerprint(tree: Any) -> Fingerprint:
    """Looks at every number of a tree of arrays.

    The checksum is a sum of whole numbers, the same however the arrays are split over devices; a
    change of any one word changes it, as each is multiplied by an odd number, modulo 2**32.
    """
    # By the host: the programs would take half a minute to compile for the full network.
    finite, plausible, total = True, True, 0
    for i, x in enumerate(jax.tree.leaves(tree)):
        for start, part in _parts(x):
            finite = finite and bool(np.isfinite(part).all())
            if part.size and np.issubdtype(part.dtype, np.floating):
                plausible = plausible and bool(part.min() >= -LARGEST and part.max() <= LARGEST)
            total += (2 * i + 1) * _checksum(part, start, np.shape(x))
    found = {
        "bad": np.array(not finite, np.uint32),
        "absurd": np.array(not plausible, np.uint32),
        "total": np.array(total % 2**32, np.uint32),  # sums wrap around, as the checksum does
    }
    # Else each process holds all of it.
    if not all(getattr(x, "is_fully_addressable", True) for x in jax.tree.leaves(tree)):
        found = processes.sum_over_processes(found)
    return Fingerprint(not int(found["bad"]), int(found["total"]), not int(found["absurd"]))


def json_checksum(value: Any) -> str:
    """The SHA-256 of a value as JSON gives it back; the order of its fields does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


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
