"""Measures the speed of a training step, optionally compared with PyTorch.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
      python -m benchmarks.train_step --config configs/refcoco.py --batch 2 --against torch

The batch is already on the device: only the step is timed (forward, backward, Adam); see
`benchmarks.pipeline` for the input. The implementations alternate in one process. On a GPU, set
XLA_PYTHON_CLIENT_PREALLOCATE=false to leave memory for PyTorch.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks import flops, timing
from benchmarks.network import SyntheticExperiment, compile_step, run, torch_steps
from lts_jax.distributed.mesh import make_mesh, put_batch


def measure(args: argparse.Namespace, config: ConfigDict, batch: int) -> dict[str, Any]:
    """Times steps of one image size and batch size."""
    experiment = SyntheticExperiment(config, make_mesh(shards=config.train.shard_params))
    examples, program = compile_step(experiment, batch)
    operations = flops.count(experiment.train_step, experiment.abstract_state, examples)
    state = experiment.initial_state()
    ways: dict[str, Callable[[], None]] = {}
    if args.against == "torch":  # before the first step, which reuses the state's memory
        peers = torch_steps(experiment, state, examples)
        ways = {way: peer.training(args.steps) for way, peer in peers.items()}
    on_device = put_batch(examples, experiment.mesh)

    def take_steps() -> None:
        nonlocal state
        for _ in range(args.steps):
            state, losses = program(state, on_device)
        jax.block_until_ready(losses)

    _, seconds = timing.alternate({"ours": take_steps} | ways, args.repeats)
    memory = program.memory_analysis()
    devices = experiment.mesh.size
    point = {
        "rows": timing.summarize(
            seconds, batch * args.steps, operations * args.steps, args.rate, devices
        ),
        "operations_per_sentence": operations // batch,
        "operations_by_xla": (program.cost_analysis() or {}).get("flops"),
        "bytes_of_state": memory.argument_size_in_bytes,
        "bytes_of_a_step": memory.temp_size_in_bytes,
        "peak_bytes": timing.peak_memory(),
    }
    if args.against == "torch":
        from benchmarks.peer.steps import peak_memory

        point["torch_peak_bytes"] = peak_memory()
    return point


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    run(__doc__, measure, arguments)


if __name__ == "__main__":
    main()
