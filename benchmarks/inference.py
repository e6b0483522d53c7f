"""Measures the inference speed of the network, optionally compared with PyTorch.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
      python -m benchmarks.inference --config configs/refcoco.py --batch 1 --against torch

Every sentence has its own image; `benchmarks.evaluation` measures shared image encodings, and
`benchmarks.export` the exported formats. The batch is already on the device, and the
implementations alternate. On a GPU, set XLA_PYTHON_CLIENT_PREALLOCATE=false to leave memory for
PyTorch.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks import flops, timing
from benchmarks.network import SyntheticExperiment, make_batch, run, torch_steps
from lts_jax.distributed.mesh import one_device
from lts_jax.state.train_state import variables_of
from lts_jax.steps.inference import to_float


def measure(args: argparse.Namespace, config: ConfigDict, batch: int) -> dict[str, Any]:
    """Times batches of one image size and batch size."""
    experiment = SyntheticExperiment(config, one_device())
    examples = make_batch(experiment, batch)
    inputs = {name: examples[name] for name in ("image", "tokens", "length")}
    state = experiment.initial_state().network()
    variables = variables_of(state)

    def predict(variables: Any, x: Any) -> Any:
        return experiment.model.apply(
            variables, to_float(x["image"]), x["tokens"], x["length"], train=False
        )

    operations = flops.count(predict, variables, inputs)
    on_device = jax.device_put(inputs)
    program: Any = jax.jit(predict).lower(variables, on_device).compile()

    def run_batches() -> None:
        for _ in range(args.steps):
            outputs = program(variables, on_device)
        jax.block_until_ready(outputs)

    ways: dict[str, Callable[[], None]] = {"ours": run_batches}
    if args.against == "torch":
        peers = torch_steps(experiment, state, examples)
        ways |= {way: peer.inference(args.steps) for way, peer in peers.items()}
    _, seconds = timing.alternate(ways, args.repeats)
    return {
        "rows": timing.summarize(seconds, batch * args.steps, operations * args.steps, args.rate),
        "operations_per_sentence": operations // batch,
        "operations_by_xla": (program.cost_analysis() or {}).get("flops"),
        "bytes_of_a_step": program.memory_analysis().temp_size_in_bytes,
        "peak_bytes": timing.peak_memory(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    run(__doc__, measure, arguments)


if __name__ == "__main__":
    main()
