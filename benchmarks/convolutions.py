"""Compares the speed of the network's convolutions in XLA, lts_jax and PyTorch.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.convolutions --out convolutions.json

The forward pass, the kernel gradient and the input gradient are timed separately, alternating. Ours
differs from XLA's only on CPUs, see `lts_jax.models.convolution`.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from benchmarks import machine, timing
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json
from lts_jax.models.convolution import convolve


class Layer(NamedTuple):
    """A 3×3 convolution of `configs/refcoco.py`."""

    side: int
    inputs: int
    outputs: int
    stride: int = 1
    dilation: int = 1


LAYERS = (
    Layer(416, 3, 32),
    Layer(416, 32, 64, stride=2),
    Layer(208, 32, 64),
    Layer(104, 64, 128),
    Layer(52, 128, 256),
    Layer(26, 256, 512),
    Layer(13, 512, 1024),
    Layer(52, 1025, 256, dilation=6),
    Layer(52, 1025, 256, dilation=12),
    Layer(52, 1025, 256, dilation=18),
)
PARTS = ("forward", "kernel", "input")


def in_jax(layer: Layer, batch: int, ours: bool) -> dict[str, Callable[[], Any]]:
    """Returns the three compiled parts of a layer."""
    rng = np.random.default_rng(0)
    out = layer.side // layer.stride
    x = jnp.asarray(rng.normal(size=(batch, layer.side, layer.side, layer.inputs)), jnp.float32)
    k = jnp.asarray(rng.normal(size=(3, 3, layer.inputs, layer.outputs)), jnp.float32)
    dy = jnp.asarray(rng.normal(size=(batch, out, out, layer.outputs)), jnp.float32)
    strides, dilation = (layer.stride,) * 2, (layer.dilation,) * 2
    padding = ((layer.dilation,) * 2,) * 2

    def run(x: jax.Array, k: jax.Array) -> jax.Array:
        if ours:
            return convolve(x, k, strides, padding, rhs_dilation=dilation)
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, k, strides, padding, rhs_dilation=dilation, dimension_numbers=numbers
        )

    forward = jax.jit(run)
    kernel = jax.jit(lambda x, k, dy: jax.vjp(lambda k: run(x, k), k)[1](dy))
    inputs = jax.jit(lambda x, k, dy: jax.vjp(lambda x: run(x, k), x)[1](dy))
    return {
        "forward": lambda: jax.block_until_ready(forward(x, k)),
        "kernel": lambda: jax.block_until_ready(kernel(x, k, dy)),
        "input": lambda: jax.block_until_ready(inputs(x, k, dy)),
    }


def in_torch(layer: Layer, batch: int) -> dict[str, Callable[[], Any]]:
    """Returns the same parts in PyTorch."""
    out = layer.side // layer.stride
    x = torch.randn(batch, layer.inputs, layer.side, layer.side)
    k = torch.randn(layer.outputs, layer.inputs, 3, 3)
    dy = torch.randn(batch, layer.outputs, out, out)
    place = [layer.stride] * 2, [layer.dilation] * 2, [layer.dilation] * 2

    def backward(of_input: bool, of_kernel: bool) -> Callable[[], Any]:
        mask = [of_input, of_kernel, False]
        function = torch.ops.aten.convolution_backward
        return lambda: function(dy, x, k, None, *place, False, [0, 0], 1, mask)

    return {
        "forward": lambda: torch.conv2d(x, k, None, *place),
        "kernel": backward(False, True),
        "input": backward(True, False),
    }


def benchmark(batch: int, repeats: int) -> list[dict[str, Any]]:
    """Times all layers; returns milliseconds by part and implementation."""
    rows = []
    for layer in LAYERS:
        ways = {
            "XLA": in_jax(layer, batch, ours=False),
            "ours": in_jax(layer, batch, ours=True),
            "torch": in_torch(layer, batch),
        }
        row: dict[str, Any] = layer._asdict()
        for part in PARTS:
            _, seconds = timing.alternate({name: way[part] for name, way in ways.items()}, repeats)
            row[part] = {name: 1e3 * statistics.median(s) for name, s in seconds.items()}
        rows.append(row)
    return rows


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Prints the table."""
    header = ["side", "channels", "stride", "rate"]
    header += [f"{part}: {way}" for part in PARTS for way in rows[0][part]]
    lines = [
        [
            str(row["side"]),
            f"{row['inputs']} → {row['outputs']}",
            str(row["stride"]),
            str(row["dilation"]),
            *(f"{ms:.0f}" for part in PARTS for ms in row[part].values()),
        ]
        for row in rows
    ]
    print(format_table(header, lines))


def main() -> None:
    """Runs the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument(
        "--repeats", type=int, default=5, help="number of timed calls per implementation"
    )
    args = parse_arguments(parser)
    rows = benchmark(args.batch, args.repeats)
    result = {
        "batch": args.batch,
        "unit": "ms",
        "layers": rows,
        "load_average": machine.load_average(),
        **machine.describe(("jax", "torch")),
    }
    print(json.dumps({k: v for k, v in result.items() if k != "layers"}))
    print_rows(rows)
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
