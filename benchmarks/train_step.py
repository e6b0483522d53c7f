"""Speed of a training step, by itself or against the PyTorch twin.

    python -m benchmarks.train_step --config configs/refcoco.py --batch 2 --against torch

The batch lies on the device: what is timed is the step (forward, backward, Adam), not the input,
which `benchmarks.pipeline` times. The ways take turns in one process. On a GPU set
XLA_PYTHON_CLIENT_PREALLOCATE=false, or JAX leaves PyTorch no memory.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks import flops, turns
from benchmarks.network import Network, make_batch, make_network, run, torch_peers
from lts_jax import sharding
from lts_jax.huge_pages import start_again
from lts_jax.steps import compile_train_step, make_train_step


def measure(args: argparse.Namespace, size: int, batch: int) -> dict[str, Any]:
    """Times steps at one image and batch size."""
    network = make_network(args.config, args.overrides, size)
    per_image, parts = network.config.train.sentences_per_image, network.config.train.accumulate
    sharding.check_batch_size("--batch", batch, network.mesh, parts, per_image)
    examples = make_batch(network.config, batch, per_image)
    weight = network.config.train.location_weight
    operations = flops.count(
        make_train_step(network.model, network.optimizer, weight, network.mesh),
        network.state,
        examples,
    )
    compiled = compile_train_step(
        network.model, network.optimizer, weight, network.mesh, accumulate=parts
    )
    on_device = sharding.put_batch(examples, network.mesh)
    program = compiled.lower(network.state, on_device).compile()  # type: ignore[attr-defined]
    memory = program.memory_analysis()
    ways: dict[str, Callable[[], None]] = {"ours": _steps(program, network, on_device, args.steps)}
    if args.against == "torch":  # before the first step, which takes the state's memory
        peers = torch_peers(network, examples)
        ways |= {way: peer.training(args.steps) for way, peer in peers.items()}
    _, seconds = turns.take_turns(ways, args.repeats)
    point = {
        "rows": turns.summarize(
            seconds, batch * args.steps, operations * args.steps, args.rate, network.mesh.size
        ),
        "operations_per_sentence": operations // batch,
        "operations_by_xla": (program.cost_analysis() or {}).get("flops"),
        "bytes_of_state": memory.argument_size_in_bytes,
        "bytes_of_a_step": memory.temp_size_in_bytes,
        "peak_bytes": turns.peak_memory(),
    }
    if args.against == "torch":
        from benchmarks import torch_peer

        point["torch_peak_bytes"] = torch_peer.peak_memory()
    return point


def _steps(program: Any, network: Network, batch: Any, steps: int) -> Callable[[], None]:
    state = network.state

    def take() -> None:
        nonlocal state
        for _ in range(steps):
            state, losses = program(state, batch)
        jax.block_until_ready(losses)

    return take


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    run(__doc__ or "", measure, argv)


if __name__ == "__main__":
    start_again()  # as the command itself does
    main()
