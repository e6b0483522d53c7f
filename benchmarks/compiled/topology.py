"""Creates devices to compile for without attached hardware; the compilers are pip packages."""

import math
import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from benchmarks.compiled.devices import DEVICES, GPU, TPU
from lts_jax.errors import ConfigError

SLICES = {1: (1, 1, 1), 4: (2, 2, 1), 8: (2, 4, 1), 16: (4, 4, 1)}
"""Shapes of TPU slices by number of chips; a host has at most four chips."""

_CUDA, _CUDNN = (13, 0, 0), (9, 12, 0)  # versions that jax-cuda13-plugin is built for


def devices_of(name: str, count: int) -> Sequence[jax.Device]:
    """Returns devices that programs can be compiled for, but not run on.

    Args:
      name: a key of `DEVICES`.
      count: number of GPUs of one host, or of chips of a slice, a key of `SLICES`.

    Raises:
      ConfigError: the compiler is not installed, or the slice does not exist.
    """
    jax.config.update("jax_platforms", "cpu")  # otherwise JAX looks for accelerators
    device = DEVICES[name]
    if isinstance(device, GPU):
        return _gpus(device, count)
    return _tpus(device, count)


def _gpus(device: GPU, count: int) -> Sequence[jax.Device]:
    try:
        topology = topologies.get_topology_desc(
            "", platform="cuda", target_config=target_config(device), topology=f"1x1x{count}"
        )
    except RuntimeError as error:
        raise ConfigError(
            f"no compiler for GPUs: pip install 'lts_jax[compile-gpu]' ({_line(error)})"
        ) from error
    return list(topology.devices)


def _tpus(device: TPU, count: int) -> Sequence[jax.Device]:
    if count not in SLICES:
        slices = ", ".join(map(str, SLICES))
        raise ConfigError(f"--devices {count} is not the size of a TPU slice; use one of {slices}")
    shape = SLICES[count]
    cores = 1 if device.flat else 2  # slices are named after their number of cores
    os.environ.update(
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",  # the lock protects a chip, and there is none
        TPU_ACCELERATOR_TYPE=f"{device.accelerator}-{cores * count}",
        TPU_SKIP_MDS_QUERY="1",
        TPU_WORKER_HOSTNAMES="localhost",
    )
    options: dict[str, object] = {"chips_per_host_bounds": _host(shape)}
    if device.megacore:
        options["chip_config_name"] = "megacore"
    try:
        topology = topologies.get_topology_desc(
            f"{device.generation}:{'x'.join(map(str, shape))}", platform="tpu", **options
        )
    except RuntimeError as error:
        raise ConfigError(
            f"no compiler for TPUs: pip install 'lts_jax[compile-tpu]' ({_line(error)})"
        ) from error
    return list(topology.devices)


def _host(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if math.prod(shape) <= 4 else (2, 2, 1)


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def target_config(device: GPU) -> str:
    """Returns XLA's description of a GPU: a `GpuTargetConfigProto` as text."""
    (major, minor), cuda = device.capability, ".".join(map(str, _CUDA))
    extension = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
    dnn = "major: {} minor: {} patch: {}".format(*_CUDNN)
    return f"""
        gpu_device_info {{
          threads_per_block_limit: 1024 threads_per_warp: 32
          shared_memory_per_block: 49152 shared_memory_per_core: {device.shared}
          shared_memory_per_block_optin: {device.shared - 1024}
          threads_per_core_limit: {device.threads}
          core_count: {device.cores} fpus_per_core: {device.fpus}
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
          memory_bandwidth: {round(device.bandwidth)} l2_cache_size: {device.l2}
          clock_rate_ghz: {device.clock} device_memory_size: {device.memory}
          cuda_compute_capability {{
            major: {major} minor: {minor} feature_extension: {extension}
          }}
          registers_per_core_limit: 65536 registers_per_block_limit: 65536
          thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
          driver_version: "{cuda}" runtime_version: "{cuda}" compile_time_toolkit_version: "{cuda}"
          dnn_version: "{".".join(map(str, _CUDNN))}"
        }}
        platform_name: "CUDA"
        dnn_version_info {{ {dnn} }}
        device_description_str: "NVIDIA {device.title}"
        """
