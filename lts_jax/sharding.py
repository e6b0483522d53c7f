"""Devices as a mesh with one axis, `data`: the batch is split, the state is copied."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lts_jax.errors import ConfigError


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
