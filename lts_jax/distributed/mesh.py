"""The device mesh with two axes, `data` and `shard`.

The batch is split over both axes. The state is replicated along `data` and split along `shard`.
By default, `shard` has length 1, so that the state is not split.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lts_jax.config.validation import check_divides
from lts_jax.errors import ConfigError

BATCH = PartitionSpec(("data", "shard"))
"""The leading axis split over all devices."""

_SMALLEST = 2**14
"""Minimum size of an array that is split: for smaller ones, communication costs more."""


def make_mesh(devices: Sequence[jax.Device] | None = None, shards: int = 1) -> Mesh:
    """Arranges the devices, by default those of all processes, in groups of `shards`.

    Raises:
      ConfigError: `shards` does not divide the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    n = len(devices)
    if n % shards:
        fitting = ", ".join(str(i) for i in range(1, n + 1) if n % i == 0)
        raise ConfigError(
            f"train.shard_params={shards} does not divide {n} devices: set one of {fitting}"
        )
    # On some TPU slices, a group is only a part of a physical axis.
    device_grid = mesh_utils.create_device_mesh(
        (n // shards, shards), list(devices), allow_split_physical_axes=True
    )
    # nn.Embed raises an error with explicit axes, the default.
    return Mesh(device_grid, ("data", "shard"), axis_types=(AxisType.Auto, AxisType.Auto))


def one_device() -> Mesh:
    """Returns a mesh of this process's first device."""
    return make_mesh(jax.local_devices()[:1])


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that replicates an array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis over the devices."""
    return NamedSharding(mesh, BATCH)


def over_shards(tree: Any, mesh: Mesh) -> Any:
    """Returns the shardings of a state's arrays, as a tree.

    Arrays with at least 2^14 elements are split along the longest axis that is divisible by the
    length of `shard`; all others are replicated.
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
    """Replicates a state of `mesh` on every device of `local`, a mesh of local devices."""

    def copy(x: jax.Array) -> jax.Array:
        full = jax.device_put(x, replicated(mesh))
        parts = [shard.data for shard in full.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, replicated(local), parts)

    return jax.tree.map(copy, tree)


def check_batch_size(
    field: str, batch_size: int, mesh: Mesh, accumulate: int = 1, per_image: int = 1
) -> None:
    """Raises ConfigError if a batch or microbatch cannot be split evenly over the mesh.

    The sentences of an image stay on one device.
    """
    over = f"{mesh.size} devices"
    over += f" × train.accumulate={accumulate}" if accumulate > 1 else ""
    over += f" × train.sentences_per_image={per_image}" if per_image > 1 else ""
    check_divides(field, batch_size, mesh.size * accumulate * per_image, over)


def put_batch(batch: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Splits the examples of a batch (arrays or tuples of arrays) over the devices."""
    place = over_batch(mesh)
    return {
        name: jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, x), value)
        for name, value in batch.items()
    }
