"""Devices as a mesh with one axis, `data`: the batch is split, the state is copied."""

import json
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lts_jax.errors import ConfigError

T = TypeVar("T")


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Puts the devices, by default all, in one axis."""
    devices = jax.devices() if devices is None else devices
    # Explicit axes, the default, make nn.Embed raise.
    return jax.make_mesh(
        (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=list(devices)
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(field: str, batch_size: int, mesh: Mesh) -> None:
    """Raises ConfigError if a batch cannot be split evenly over the mesh."""
    n = mesh.size
    if batch_size <= 0 or batch_size % n:
        lower = batch_size // n * n
        near = f"{lower} or {lower + n}" if lower > 0 else str(n)
        raise ConfigError(f"{field}={batch_size} does not divide over {n} devices: take {near}")


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Splits the examples of a batch over the devices."""
    place = over_batch(mesh)
    return {k: jax.make_array_from_process_local_data(place, v) for k, v in batch.items()}


def join_processes(coordinator: str, processes: int, process: int) -> None:
    """Makes this one of several processes; before anything else touches a device.

    Args:
      coordinator: host:port at which the first process listens.
      processes: how many.
      process: which of them, from 0.

    Raises:
      ConfigError: they cannot be.
    """
    if not 0 <= process < processes or not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(
            f"--coordinator={coordinator} --num_processes={processes} --process_id={process}: "
            "give host:port, how many, and which of them from 0"
        )
    jax.distributed.initialize(coordinator, processes, process)


def one_after_another(make: Callable[[], T]) -> T:
    """Calls a function in the first process before the others: it may build what they then find."""
    if jax.process_count() == 1:
        return make()
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("first")
    made = make()
    if jax.process_index() == 0:
        multihost_utils.sync_global_devices("first")
    return made


def sum_over_processes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds up what the processes hold, by name; of at most 32 bits.

    A process that lacks an array holds zeros, so that all of them take part in every sum.
    """
    if jax.process_count() == 1:
        return arrays
    mine = json.dumps({k: (v.shape, v.dtype.str) for k, v in arrays.items()})
    kinds: dict[str, tuple[list[int], str]] = {}
    for of_process in gather_bytes(mine.encode()):
        kinds |= json.loads(of_process)
    whole = {k: arrays.get(k, np.zeros(shape, dtype)) for k, (shape, dtype) in kinds.items()}
    gathered = multihost_utils.process_allgather(whole)
    return {k: np.asarray(v).sum(axis=0, dtype=whole[k].dtype) for k, v in gathered.items()}


def gather_bytes(data: bytes) -> list[bytes]:
    """Returns what each process holds, in their order, on all of them."""
    if jax.process_count() == 1:
        return [data]
    lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(data)))).reshape(-1)
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    gathered = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:n].tobytes() for row, n in zip(gathered, lengths, strict=True)]
