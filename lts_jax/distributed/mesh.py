"""Devices as a mesh with two axes, `data` and `shard`.

The batch is split over both axes. The state is copied along `data` and split along `shard`, whose
length is 1, so that nothing is split, unless the config asks for more.
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


def one_device() -> Mesh:
    """Returns a mesh of this process's first device."""
    return make_mesh(jax.local_devices()[:1])


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


def put_batch(batch: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Splits the examples of a batch, arrays or tuples of arrays, over the devices."""
    place = over_batch(mesh)
    return {
        name: jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, x), value)
        for name, value in batch.items()
    }
