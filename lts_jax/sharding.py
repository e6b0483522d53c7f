"""Devices as a mesh with two axes, `data` and `shard`, and what the processes do together.

The batch is split over both axes. The state is copied along `data` and split along `shard`, whose
length is 1, so that nothing is split, unless the config asks for more.
"""

import contextlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lts_jax.checks import check_divides
from lts_jax.errors import ConfigError

T = TypeVar("T")

BATCH = PartitionSpec(("data", "shard"))
"""The leading axis split over all devices."""

_SMALLEST = 2**14
"""Numbers in the smallest array that is split: below, the traffic costs more than it saves."""


def make_mesh(devices: Sequence[jax.Device] | None = None, shards: int = 1) -> Mesh:
    """Puts the devices, by default those of all processes, in groups of `shards`.

    Raises:
      ConfigError: they cannot be.
    """
    devices = jax.devices() if devices is None else devices
    n = len(devices)
    if n % shards:
        fitting = ", ".join(str(i) for i in range(1, n + 1) if n % i == 0)
        raise ConfigError(f"train.shard_params={shards} does not divide {n} devices: {fitting} do")
    # Of some slices of TPUs a group would be no axis of its own: their links are shared then.
    placed = mesh_utils.create_device_mesh(
        (n // shards, shards), list(devices), allow_split_physical_axes=True
    )
    # Explicit axes, the default, make nn.Embed raise.
    return Mesh(placed, ("data", "shard"), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, BATCH)


def over_shards(tree: Any, mesh: Mesh) -> Any:
    """Says of each array of a state where it lies: a tree of shardings.

    Of an array with at least 2^14 numbers, the longest axis that the mesh's `shard` divides is
    split along it; everything else is copied.
    """
    shards = mesh.shape["shard"]

    def place(x: Any) -> NamedSharding:
        fitting = [axis for axis, length in enumerate(x.shape) if length % shards == 0]
        if shards == 1 or x.size < _SMALLEST or not fitting:
            return replicated(mesh)
        longest = max(fitting, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "shard"))

    return jax.tree.map(place, tree)


def local_copy(tree: Any, mesh: Mesh, local: Mesh) -> Any:
    """Makes a state of `mesh` whole on every device of `local`, which are this process's own."""

    def copy(x: jax.Array) -> jax.Array:
        whole = jax.device_put(x, replicated(mesh))
        parts = [shard.data for shard in whole.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, replicated(local), parts)

    return jax.tree.map(copy, tree)


def check_batch_size(
    field: str, batch_size: int, mesh: Mesh, accumulate: int = 1, per_image: int = 1
) -> None:
    """Raises ConfigError if a batch, or one of its parts, cannot be split evenly over the mesh.

    An image's sentences stay together.
    """
    over = f"{mesh.size} devices"
    over += f" × train.accumulate={accumulate}" if accumulate > 1 else ""
    over += f" × train.sentences_per_image={per_image}" if per_image > 1 else ""
    check_divides(field, batch_size, mesh.size * accumulate * per_image, over)


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
    print(f"process {process} of {processes}: waiting for all at {coordinator}", flush=True)
    jax.distributed.initialize(coordinator, processes, process)


def join_found_processes() -> None:
    """As `join_processes`, with what JAX finds by itself: TPU VMs, SLURM, Open MPI, Kubernetes.

    The environment's JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID come before it.

    Raises:
      ConfigError: there is nothing to be found.
    """
    # JAX itself reads the address alone.
    numbers: dict[str, int | None] = {"JAX_NUM_PROCESSES": None, "JAX_PROCESS_ID": None}
    for name in numbers.keys() & os.environ.keys():
        if not os.environ[name].isdecimal():
            raise ConfigError(f"{name}={os.environ[name]} is no whole number")
        numbers[name] = int(os.environ[name])
    processes, process = numbers.values()
    try:
        jax.distributed.initialize(num_processes=processes, process_id=process)
    except ValueError as error:
        raise ConfigError(
            f"--distributed=auto: {error} Neither a TPU VM nor SLURM, Open MPI or Kubernetes says "
            "who takes part: give --coordinator, --num_processes and --process_id"
        ) from error


@contextlib.contextmanager
def in_first_process(context: contextlib.AbstractContextManager[object]) -> Iterator[None]:
    """Enters a context in the first process; an error there is raised in all of them."""
    with contextlib.ExitStack() as stack:
        said, cause = "", None
        if jax.process_index() == 0:
            try:
                stack.enter_context(context)
            except Exception as error:
                said, cause = str(error) or type(error).__name__, error
        if said := heard(said):
            raise ConfigError(said) from cause
        yield


def heard(said: str) -> str:
    """Returns on all processes what the first one with something to say says; "" if none has."""
    return next(filter(None, gather_bytes(said.encode())), b"").decode()


def check_alike(given: Mapping[str, Any]) -> None:
    """Raises ConfigError on all processes where one of them was given something else.

    Args:
      given: values that JSON can hold, by name.
    """
    mine = json.dumps(given, sort_keys=True)
    first, *others = (json.loads(of) for of in gather_bytes(mine.encode()))
    for process, other in enumerate(others, start=1):
        names = sorted(k for k in first.keys() | other.keys() if first.get(k) != other.get(k))
        if names:
            listed = "\n".join(
                f"  {name}: {first.get(name, 'absent')} in process 0, "
                f"{other.get(name, 'absent')} in process {process}"
                for name in names
            )
            raise ConfigError(
                f"the processes were not started alike:\n{listed}\n"
                "Give all of them the same arguments, data and files."
            )


def check_shared(folder: Path) -> None:
    """Raises ConfigError where not all processes see the first one's folder, which is there."""
    if jax.process_count() == 1:
        return
    name = gather_bytes(f".seen_by_all.{uuid.uuid4().hex}".encode())[0].decode()
    first = jax.process_index() == 0
    if first:
        (folder / name).touch()
    multihost_utils.sync_global_devices("made a file")
    seen = (folder / name).exists()
    blind = [str(i) for i, of in enumerate(gather_bytes(b"1" if seen else b"0")) if of == b"0"]
    if first:
        (folder / name).unlink()
    if blind:
        raise ConfigError(
            f"{folder}: process {', '.join(blind)} does not see there what process 0 writes. All "
            "need one --workdir: give a folder that the machines share"
        )


def one_after_another(make: Callable[[], T]) -> T:
    """Calls a function in the first process before the others: it may build what they then find."""
    if jax.process_count() == 1:
        return make()
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("first")
    try:
        return make()
    finally:  # an error too lets the others go on, into the same error
        if jax.process_index() == 0:
            multihost_utils.sync_global_devices("first")


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
