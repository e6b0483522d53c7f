"""Memory of a training step: savings of each memory option, and batches that fit on GPUs.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 \\
      python -m benchmarks.memory --config configs/refcoco.py --out memory.json

Nothing is executed, and no data is needed. The savings are read from XLA's memory analysis. The
batches that fit are computed from the state, the gradients, and the activations that JAX stores per
example for the backward pass. XLA's fusions store less; cuDNN's workspaces are not included.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks.arguments import make_parser, parse_arguments
from benchmarks.machine import describe
from benchmarks.network import SyntheticExperiment, compile_step, make_batch
from lts_jax.config.flags import load_config
from lts_jax.distributed.mesh import make_mesh, one_device
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json
from lts_jax.steps.training import StepSettings, loss_fn

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "train.remat=True": {"remat": True},
    "train.accumulate=4": {"accumulate": 4},
    "train.accumulate=4, train.remat=True": {"accumulate": 4, "remat": True},
    "4 devices": {"devices": 4},
    "4 devices, train.shard_params=4": {"devices": 4, "shard_params": 4},
}

GIB = (16, 24, 40, 80, 140)  # memory of common GPUs
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "float32": ("float32", {}),
    "float32, train.remat=True": ("float32", {"remat": True}),
    "float32, train.sentences_per_image=4": ("float32", {"sentences_per_image": 4}),
    "bfloat16": ("bfloat16", {}),
    "bfloat16, train.remat=True": ("bfloat16", {"remat": True}),
    "bfloat16, train.sentences_per_image=4": ("bfloat16", {"sentences_per_image": 4}),
}
SHARE = 0.85  # usable share of a GPU's memory; JAX's default is 0.75


def measure(config: ConfigDict, batch: int, way: dict[str, Any]) -> dict[str, float]:
    """Returns MiB of the state, and of the additional memory of a step."""
    config.train.update({k: v for k, v in way.items() if k != "devices"})
    mesh = make_mesh(jax.devices()[: way.get("devices", 1)], config.train.shard_params)
    experiment = SyntheticExperiment(config, mesh)
    _, program = compile_step(experiment, batch)
    leaves = jax.tree.leaves(experiment.abstract_state)
    on_one = [math.prod(x.sharding.shard_shape(x.shape)) for x in leaves]
    return {
        "state": 4 * sum(on_one) / 2**20,
        "step": program.memory_analysis().temp_size_in_bytes / 2**20,
    }


def kept(config: ConfigDict, dtype: str, way: dict[str, Any]) -> dict[str, float]:
    """Returns MiB of state and gradients, and of the activations stored per example."""
    config.model.dtype = dtype
    config.train.update({"sentences_per_image": 1} | way)
    per_image = config.train.sentences_per_image
    experiment = SyntheticExperiment(config, one_device())
    state = experiment.abstract_state
    settings = StepSettings(
        experiment.model,
        experiment.optimizer,
        config.train.location_weight,
        experiment.mesh,
        "backbone" in experiment.frozen,
    )

    def backward(params: Any, batch_stats: Any, batch: Any) -> Any:
        return jax.vjp(lambda x: loss_fn(x, batch_stats, batch, settings)[0], params)[1]

    def bytes_of(tree: Any) -> int:
        return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))

    batches = (make_batch(experiment, n * per_image, per_image) for n in (1, 2))
    one, two = (
        bytes_of(jax.eval_shape(backward, state.params, state.batch_stats, batch))
        for batch in batches
    )
    return {
        "state": (bytes_of(state) + bytes_of(state.params)) / 2**20,
        "example": (two - one) / per_image / 2**20,
    }


def largest_batch(mib: dict[str, float], gib: float) -> int:
    """Returns the number of sentences that fit in `SHARE` of a GPU's memory."""
    return max(0, int((SHARE * gib * 2**10 - mib["state"]) / mib["example"]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures every option, prints the tables and writes JSON."""
    parser = make_parser(__doc__, config=True)
    parser.add_argument("--batch", type=int, default=16)
    args = parse_arguments(parser, arguments)

    def config() -> ConfigDict:
        return load_config(args.config, args.overrides)

    planned = {}
    for name, way in WAYS.items():
        if way.get("devices", 1) > jax.device_count():
            print(f"{name}: skipped, because there are {jax.device_count()} devices")
            continue
        planned[name] = measure(config(), args.batch, way)
        print(name, planned[name], flush=True)
    rows = [[name, *(f"{value:.0f}" for value in mib.values())] for name, mib in planned.items()]
    print(format_table(("MiB on one device", "state", "step"), rows))
    counted = {name: kept(config(), *kind) for name, kind in KINDS.items()}
    fits = {name: {gib: largest_batch(mib, gib) for gib in GIB} for name, mib in counted.items()}
    rows = [
        [name, f"{mib['state']:.0f}", f"{mib['example']:.0f}", *map(str, fits[name].values())]
        for name, mib in counted.items()
    ]
    print(f"\nLargest batch in {SHARE:.0%} of a GPU's memory, as counted")
    header = ("", "state, MiB", "an example, MiB", *(f"{gib} GB" for gib in GIB))
    print(format_table(header, rows))
    if args.out:
        result = {
            "config": args.config,
            "batch": args.batch,
            "platform": jax.devices()[0].platform,
            **describe(("jax", "jaxlib", "flax")),
            "mib": planned,
            "mib_counted": counted,
            "largest_batch": fits,
        }
        write_json(args.out, result)


if __name__ == "__main__":
    main()
