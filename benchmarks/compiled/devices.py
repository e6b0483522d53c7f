"""Published specifications of the devices that `benchmarks.compile_for` supports."""

import dataclasses
from typing import Any

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Device:
    """A GPU, or a TPU chip.

    Attributes:
      title: name of the device, for tables.
      memory: bytes.
      bandwidth: memory bandwidth, bytes per second.
      bfloat16: matrix product rate, operations per second, with float32 accumulation and without
        sparsity.
      float32: the same for float32 operands with JAX's default precision: TF32 on GPUs, bfloat16 on
        TPUs.
      link: bandwidth to other devices in each direction, bytes per second; 0 without links.
      source: source of these numbers.
    """

    title: str
    memory: int
    bandwidth: float
    bfloat16: float
    float32: float
    link: float
    source: str


@dataclasses.dataclass(frozen=True)
class GPU(Device):
    """A GPU, with the properties that XLA's compiler needs.

    Attributes:
      capability: CUDA compute capability.
      cores: number of streaming multiprocessors.
      fpus: float32 units per multiprocessor.
      threads: maximum threads per multiprocessor.
      shared: shared memory per multiprocessor, bytes.
      l2: size of the L2 cache, bytes.
      clock: GHz.
    """

    capability: tuple[int, int]
    cores: int
    fpus: int
    threads: int
    shared: int
    l2: int
    clock: float


@dataclasses.dataclass(frozen=True)
class TPU(Device):
    """A TPU chip.

    Attributes:
      generation: libtpu's name of the generation.
      accelerator: Google Cloud's name of a slice, without the number of cores or chips.
      flat: whether slices have two dimensions instead of three.
      megacore: whether libtpu must be configured to combine a chip's two cores into one device.
    """

    generation: str
    accelerator: str
    flat: bool
    megacore: bool = False


_HOPPER: dict[str, Any] = {"capability": (9, 0), "fpus": 128, "threads": 2048, "shared": 233472}
_HOPPER_RATES: dict[str, Any] = {"bfloat16": 989.4e12, "float32": 494.7e12, "link": 450e9}
_AMPERE: dict[str, Any] = {"capability": (8, 0), "fpus": 64, "threads": 2048, "shared": 167936}

DEVICES: dict[str, GPU | TPU] = {
    "h100": GPU(
        title="H100 SXM, 80 GB",
        memory=84942979072,
        bandwidth=3352.32e9,
        source="NVIDIA H100 datasheet; XLA's h100_sxm target config",
        cores=132,
        l2=50 * 2**20,
        clock=1.98,
        **_HOPPER_RATES,
        **_HOPPER,
    ),
    "h200": GPU(
        title="H200 SXM, 141 GB",
        memory=151397597184,
        bandwidth=4800e9,
        source="NVIDIA H200 datasheet; XLA's h200 target config",
        cores=132,
        l2=50 * 2**20,
        clock=1.98,
        **_HOPPER_RATES,
        **_HOPPER,
    ),
    "a100": GPU(
        title="A100 SXM, 80 GB",
        memory=85100068864,
        bandwidth=2039.04e9,
        bfloat16=312e12,
        float32=156e12,
        link=300e9,
        source="NVIDIA A100 datasheet; XLA's a100_sxm_80 target config",
        cores=108,
        l2=40 * 2**20,
        clock=1.41,
        **_AMPERE,
    ),
    "rtx4090": GPU(
        title="RTX 4090, 24 GB",
        memory=24564 * 2**20,
        bandwidth=1008e9,
        bfloat16=165.2e12,
        float32=82.6e12,
        link=0.0,
        source="NVIDIA Ada GPU Architecture whitepaper, Appendix A",
        capability=(8, 9),
        cores=128,
        fpus=128,
        threads=1536,
        shared=102400,
        l2=72 * 2**20,
        clock=2.52,
    ),
    "v4": TPU(
        title="TPU v4, 32 GB",
        memory=32 * GIB,
        bandwidth=1228e9,
        bfloat16=275e12,
        float32=275e12,
        link=300e9,
        source="Google Cloud, TPU v4 system architecture",
        generation="v4",
        accelerator="v4",
        flat=False,
        megacore=True,
    ),
    "v5e": TPU(
        title="TPU v5e, 16 GB",
        memory=16 * GIB,
        bandwidth=819e9,
        bfloat16=197e12,
        float32=197e12,
        link=200e9,
        source="Google Cloud, TPU v5e system architecture",
        generation="v5e",
        accelerator="v5litepod",
        flat=True,
    ),
    "v5p": TPU(
        title="TPU v5p, 95 GB",
        memory=95 * GIB,
        bandwidth=2765e9,
        bfloat16=459e12,
        float32=459e12,
        link=600e9,
        source="Google Cloud, TPU v5p system architecture",
        generation="v5p",
        accelerator="v5p",
        flat=False,
    ),
    "v6e": TPU(
        title="TPU v6e, 32 GB",
        memory=32 * GIB,
        bandwidth=1640e9,
        bfloat16=918e12,
        float32=918e12,
        link=448e9,
        source="Google Cloud, TPU v6e system architecture",
        generation="v6e",
        accelerator="v6e",
        flat=True,
    ),
}
