"""Speed of the network in evaluation mode, by itself or against the PyTorch twin.

    python -m benchmarks.inference --config configs/refcoco.py --batch 1 --against torch

Every sentence with an image of its own; `benchmarks.evaluation` times what sharing one saves, and
`benchmarks.export` the exported forms. The batch lies on the device, the ways take turns. On a GPU
set XLA_PYTHON_CLIENT_PREALLOCATE=false, or JAX leaves PyTorch no memory.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks import flops, turns
from benchmarks.network import make_batch, make_network, run, torch_peers
from lts_jax.huge_pages import start_again
from lts_jax.steps import to_float, variables_of


def measure(args: argparse.Namespace, size: int, batch: int) -> dict[str, Any]:
    """Times batches at one image and batch size."""
    network = make_network(args.config, args.overrides, size)
    examples = make_batch(network.config, batch)
    inputs = {name: examples[name] for name in ("image", "tokens", "length")}
    variables = variables_of(network.state)

    def predict(variables: Any, x: Any) -> Any:
        return network.model.apply(
            variables, to_float(x["image"]), x["tokens"], x["length"], train=False
        )

    operations = flops.count(predict, variables, inputs)
    on_device = jax.device_put(inputs)
    program: Any = jax.jit(predict).lower(variables, on_device).compile()

    def take() -> None:
        for _ in range(args.steps):
            outputs = program(variables, on_device)
        jax.block_until_ready(outputs)

    ways: dict[str, Callable[[], None]] = {"ours": take}
    if args.against == "torch":
        peers = torch_peers(network, examples)
        ways |= {way: peer.inference(args.steps) for way, peer in peers.items()}
    _, seconds = turns.take_turns(ways, args.repeats)
    return {
        "rows": turns.summarize(seconds, batch * args.steps, operations * args.steps, args.rate),
        "operations_per_sentence": operations // batch,
        "operations_by_xla": (program.cost_analysis() or {}).get("flops"),
        "bytes_of_a_step": program.memory_analysis().temp_size_in_bytes,
        "peak_bytes": turns.peak_memory(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    run(__doc__ or "", measure, argv)


if __name__ == "__main__":
    start_again()  # as the command itself does
    main()
