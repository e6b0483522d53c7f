"""Reports a compiled program's memory, memory traffic and modeled time."""

import collections
from collections.abc import Sequence
from typing import Any

from benchmarks.compiled.devices import GPU, TPU, Device
from benchmarks.compiled.hlo import Kernel, kernels
from lts_jax.io.console import format_table

MIB = 2**20
LARGEST = 20  # number of listed kernels


def describe(
    program: Any, device: GPU | TPU, batch: int, devices: int, operations: int, dtype: str
) -> dict[str, Any]:
    """Analyzes a compiled program.

    Args:
      program: the program compiled by JAX.
      device: the target device.
      batch: number of sentences on all devices.
      devices: number of devices.
      operations: operations of matrix products and convolutions in one run, on all devices.
      dtype: dtype of the network.

    Returns:
      `memory`, bytes per device; `traffic`, bytes per device and run, by kind of kernel, of the
      largest kernels, and of all kernels per example; `operations`; and `model`.
    """
    all_kernels = kernels(program.as_text())
    plan = program.memory_analysis()
    examples = batch / devices
    cost = (program.cost_analysis() or {}) if isinstance(device, TPU) else {}
    # On TPUs, XLA's count takes layouts into account; on GPUs, there is none.
    total = cost.get("bytes accessed") or sum(kernel.bytes for kernel in all_kernels)
    travels = sum(kernel.travels for kernel in all_kernels)
    return {
        "memory": {
            "arguments": plan.argument_size_in_bytes,
            "outputs": plan.output_size_in_bytes,
            "reused": plan.alias_size_in_bytes,
            "temporaries": plan.temp_size_in_bytes,
            "peak": peak(plan),
        },
        "kernels": {
            "different": len(all_kernels),
            "calls": sum(kernel.calls for kernel in all_kernels),
        },
        "traffic": {
            "bytes": total,
            "bytes_per_example": total / examples,
            "source": "XLA's cost analysis" if cost else "operands and results of the kernels",
            "kernels_bytes_per_example": _by_kind(all_kernels, examples),
            "largest": [_row(kernel, examples) for kernel in _largest(all_kernels)],
            "between_devices": travels,
        },
        "operations": operations,
        "operations_by_xla": cost.get("flops"),
        "model": model(device, total, operations / devices, travels, dtype) | {"batch": batch},
    }


def peak(plan: Any) -> int:
    """Returns the peak bytes per device, from XLA's memory analysis."""
    new_outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes
    return int(plan.argument_size_in_bytes + new_outputs + plan.temp_size_in_bytes)


def model(
    device: Device, traffic: float, operations: float, travels: float, dtype: str
) -> dict[str, float]:
    """Models the time with a roofline: the slowest part hides all others."""
    rate = device.bfloat16 if dtype == "bfloat16" else device.float32
    parts = {
        "memory_seconds": traffic / device.bandwidth,
        "operations_seconds": operations / rate,
        # In a ring, each byte is sent twice.
        "link_seconds": 2 * travels / device.link if device.link else 0.0,
    }
    return parts | {"seconds": max(parts.values())}


def _by_kind(all_kernels: Sequence[Kernel], examples: float) -> dict[str, float]:
    kinds: collections.Counter[str] = collections.Counter()
    for kernel in all_kernels:
        kinds[kernel.kind] += kernel.bytes
    return {kind: total / examples for kind, total in kinds.most_common()}


def _largest(all_kernels: Sequence[Kernel]) -> list[Kernel]:
    return sorted(all_kernels, key=lambda kernel: -kernel.bytes)[:LARGEST]


def _row(kernel: Kernel, examples: float) -> dict[str, Any]:
    return {
        "bytes_per_example": kernel.bytes / examples,
        "kind": kernel.kind,
        "name": kernel.name,
        "source": kernel.source,
    }


def table(programs: dict[str, dict[str, Any]]) -> str:
    """Formats the results of `describe`, by program name."""
    header = (
        "program", "arguments MiB", "temporaries MiB", "peak MiB", "GFLOP", "MB an example",
        "kernels", "MB between", "modelled ms",
    )  # fmt: skip
    rows = []
    for name, of in programs.items():
        memory, traffic = of["memory"], of["traffic"]
        rows.append(
            [
                name,
                *(f"{memory[k] / MIB:,.0f}" for k in ("arguments", "temporaries", "peak")),
                f"{of['operations'] / 1e9:,.0f}",
                f"{traffic['bytes_per_example'] / 1e6:,.0f}",
                str(of["kernels"]["different"]),
                f"{traffic['between_devices'] / 1e6:,.0f}",
                f"{1000 * of['model']['seconds']:.2f}",
            ]
        )
    return format_table(header, rows)


def traffic_table(of: dict[str, Any]) -> str:
    """Formats a program's traffic by kind of kernel and its largest kernels."""
    traffic = of["traffic"]
    kinds = [[k, f"{v / 1e6:.1f}"] for k, v in traffic["kernels_bytes_per_example"].items()]
    largest = [
        [f"{row['kind']}  {row['source'] or row['name']}", f"{row['bytes_per_example'] / 1e6:.1f}"]
        for row in traffic["largest"]
    ]
    return "\n\n".join(
        (
            format_table(("kernels", "MB an example"), kinds),
            format_table((f"the {LARGEST} largest", "MB an example"), largest),
        )
    )
