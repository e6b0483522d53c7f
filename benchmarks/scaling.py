"""Models the cost of training on several devices: bytes communicated and time per step.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 \\
      python -m benchmarks.scaling --config configs/refcoco.py --out scaling.json

The bytes are read from the program that XLA compiles for 8 devices; nothing is executed. The time
is modeled, not measured, from the rate of one device (`--rate`, from `benchmarks.train_step`) and
the bandwidth between devices (`--bandwidth`, from the vendor), without latency.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks.arguments import make_parser, parse_arguments
from benchmarks.machine import describe
from benchmarks.network import SyntheticExperiment, compile_step
from lts_jax.config.flags import load_config
from lts_jax.distributed.mesh import make_mesh
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json

DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIMULATED = 8
_BYTES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "pred": 1, "u8": 1, "s8": 1}
# Matches `%sum = f32[32,3]{1,0} all-reduce(…)` and, for several arrays, `(f32[32]{0}, f32[64]{0})`.
_REDUCTION = re.compile(r" = (.*?) all-reduce(?:-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


def reduced_bytes(program: str) -> int:
    """Returns the bytes that a compiled program sums over the devices, from its text."""
    total = 0
    for result in _REDUCTION.findall(program):
        for kind, shape in _ARRAY.findall(result):
            total += _BYTES[kind] * math.prod(map(int, filter(None, shape.split(","))))
    return total


def traffic(config_file: str, overrides: list[str]) -> dict[str, int]:
    """Returns the bytes that a step sums over the devices and the bytes of all gradients."""
    config = load_config(config_file, overrides)
    mesh = make_mesh(jax.devices()[:SIMULATED])
    if mesh.size < SIMULATED:
        raise SystemExit(f"error: set XLA_FLAGS=--xla_force_host_platform_device_count={SIMULATED}")
    config.train.sentences_per_image = 1  # does not affect the sums
    experiment = SyntheticExperiment(config, mesh)
    _, program = compile_step(experiment, mesh.size)
    params = experiment.abstract_state.params
    return {
        "reduced": reduced_bytes(program.as_text()),
        "gradients": sum(4 * x.size for x in jax.tree.leaves(params)),
    }


def step_seconds(
    devices: int, *, batch: int, rate: float, reduced: int, bandwidth: float
) -> tuple[float, float]:
    """Models a step: seconds of computation and of a sum over a ring of devices.

    Args:
      devices: number of devices.
      batch: examples per device.
      rate: examples per second of one device.
      reduced: bytes that are summed.
      bandwidth: bandwidth of a device's link in each direction, bytes per second.
    """
    # A ring sends each byte twice, except for each device's share (Patarasuk and Yuan, 2009).
    return batch / rate, 2 * (devices - 1) / devices * reduced / bandwidth


def model_rows(batch: int, rate: float, reduced: int, bandwidth: float) -> list[dict[str, float]]:
    """Returns the model by number of devices, without overlap and with perfect overlap."""
    rows = []
    for n in DEVICES:
        computing, summing = step_seconds(
            n, batch=batch, rate=rate, reduced=reduced, bandwidth=bandwidth
        )
        rows.append(
            {
                "devices": n,
                "computing_seconds": computing,
                "summing_seconds": summing,
                "efficiency": computing / (computing + summing),
                # Gradients are summed during the backward pass, two thirds of a step.
                "efficiency_overlapped": computing / max(computing, computing / 3 + summing),
                "examples_per_second": n * batch / (computing + summing),
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__, config=True)
    parser.add_argument("--batch", type=int, default=18, help="examples per device")
    parser.add_argument("--rate", type=float, help="measured examples per second of one device")
    parser.add_argument(
        "--bandwidth", type=float, default=50, help="bandwidth of a device's link, GB/s"
    )
    args = parse_arguments(parser, arguments)
    sizes = traffic(args.config, args.overrides)
    print(f"gradients: {sizes['gradients'] / 1e6:.1f} MB")
    print(f"summed over the devices in a step: {sizes['reduced'] / 1e6:.1f} MB")
    result: dict[str, Any] = {"config": args.config, "bytes": sizes}
    if args.rate:
        rows = model_rows(args.batch, args.rate, sizes["reduced"], args.bandwidth * 1e9)
        header = (
            "devices",
            "computing, ms",
            "summing, ms",
            "efficiency",
            "overlapped",
            "sentences/s",
        )
        print(f"model: {args.batch} examples a device, {args.rate} a second, {args.bandwidth} GB/s")
        print(
            format_table(
                header,
                [
                    [
                        str(row["devices"]),
                        f"{1e3 * row['computing_seconds']:.1f}",
                        f"{1e3 * row['summing_seconds']:.1f}",
                        f"{row['efficiency']:.1%}",
                        f"{row['efficiency_overlapped']:.1%}",
                        f"{row['examples_per_second']:.0f}",
                    ]
                    for row in rows
                ],
            )
        )
        result |= {"batch": args.batch, "rate": args.rate, "bandwidth": args.bandwidth * 1e9}
        result["model"] = rows
    if args.out:
        write_json(args.out, {**result, **describe(("jax", "jaxlib", "flax"))})


if __name__ == "__main__":
    main()
