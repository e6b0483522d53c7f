"""Memory of a training step: what each way to save it saves, and which batch fits on a GPU.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 \\
      python -m benchmarks.memory --config configs/refcoco.py --out memory.json

Nothing is computed and no data is needed. What each way saves is told by the plan that XLA makes
for the devices it runs on. What fits is counted: the state, the gradients, and for every example
what JAX keeps for the backward pass. XLA's fusions keep less of it, cuDNN's workspaces come on top.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import jax
import optax

from benchmarks.machine import describe
from benchmarks.network import VOCABULARY, make_batch, plan_step
from lts_jax import experiment, losses, sharding
from lts_jax.cli import requested_config
from lts_jax.steps import to_float
from lts_jax.writers import format_table, write_json

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "train.remat=True": {"remat": True},
    "train.accumulate=4": {"accumulate": 4},
    "train.accumulate=4, train.remat=True": {"accumulate": 4, "remat": True},
    "4 devices": {"devices": 4},
    "4 devices, train.shard_params=4": {"devices": 4, "shard_params": 4},
}

GIB = (16, 24, 40, 80, 140)  # of common GPUs
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "float32": ("float32", {}),
    "float32, train.remat=True": ("float32", {"remat": True}),
    "float32, train.sentences_per_image=4": ("float32", {"sentences_per_image": 4}),
    "bfloat16": ("bfloat16", {}),
    "bfloat16, train.remat=True": ("bfloat16", {"remat": True}),
    "bfloat16, train.sentences_per_image=4": ("bfloat16", {"sentences_per_image": 4}),
}
SHARE = 0.85  # of a GPU's memory; JAX takes 0.75 unless XLA_PYTHON_CLIENT_MEM_FRACTION says more


def measure(config_file: str, batch: int, way: dict[str, Any]) -> dict[str, float]:
    """MiB of the state, which lasts, and of what a step needs beside it."""
    config = requested_config(config_file, [])
    config.train.update({k: v for k, v in way.items() if k != "devices"})
    mesh = sharding.make_mesh(jax.devices()[: way.get("devices", 1)], config.train.shard_params)
    state, program = plan_step(config, mesh, batch)
    on_one = [math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(state)]
    return {
        "state": 4 * sum(on_one) / 2**20,
        "step": program.memory_analysis().temp_size_in_bytes / 2**20,
    }


def kept(config_file: str, dtype: str, way: dict[str, Any]) -> dict[str, float]:
    """MiB of state and gradients, and of what an example keeps for the backward pass."""
    config = requested_config(config_file, [])
    config.model.dtype = dtype
    config.train.update({"sentences_per_image": 1} | way)
    per_image = config.train.sentences_per_image
    model = experiment.make_model(config, VOCABULARY)
    optimizer = experiment.make_train_optimizer(config.train, optax.constant_schedule(1e-3))
    mesh = sharding.make_mesh(jax.devices()[:1])
    state = experiment.abstract_state(config, model, optimizer, mesh)

    def backward(params: Any, batch_stats: Any, batch: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            outputs, _ = model.apply(
                {"params": params, "batch_stats": batch_stats},
                to_float(batch["image"]),
                batch["tokens"],
                batch["length"],
                train=True,
                mutable=["batch_stats"],
            )
            truth = batch["truth4"], batch["truth8"]
            return losses.total_loss(outputs, *truth, config.train.location_weight)[0]

        return jax.vjp(loss, params)[1]

    def bytes_of(tree: Any) -> int:
        return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))

    arguments = state.params, state.batch_stats
    one, two = (
        bytes_of(jax.eval_shape(backward, *arguments, make_batch(config, n * per_image, per_image)))
        for n in (1, 2)
    )
    return {
        "state": (bytes_of(state) + bytes_of(state.params)) / 2**20,
        "example": (two - one) / per_image / 2**20,
    }


def largest_batch(found: dict[str, float], gib: float) -> int:
    """Sentences that fit in a share of so much memory."""
    return max(0, int((SHARE * gib * 2**10 - found["state"]) / found["example"]))


def main() -> None:
    """Measures every way, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found = {}
    for name, way in WAYS.items():
        if way.get("devices", 1) > jax.device_count():
            print(f"{name}: not measured, as there are {jax.device_count()} devices")
            continue
        found[name] = measure(args.config, args.batch, way)
        print(name, found[name], flush=True)
    rows = [[name, *(f"{value:.0f}" for value in mib.values())] for name, mib in found.items()]
    print(format_table(("MiB on one device", "state", "step"), rows))
    counted = {name: kept(args.config, *kind) for name, kind in KINDS.items()}
    fits = {name: {gib: largest_batch(of, gib) for gib in GIB} for name, of in counted.items()}
    rows = [
        [name, f"{of['state']:.0f}", f"{of['example']:.0f}", *map(str, fits[name].values())]
        for name, of in counted.items()
    ]
    print(f"\nLargest batch in {SHARE:.0%} of a GPU's memory, as counted")
    header = ("", "state, MiB", "an example, MiB", *(f"{gib} GB" for gib in GIB))
    print(format_table(header, rows))
    write_json(
        args.out,
        {
            "config": args.config,
            "batch": args.batch,
            "platform": jax.devices()[0].platform,
            **describe(("jax", "jaxlib", "flax")),
            "mib": found,
            "mib_counted": counted,
            "largest_batch": fits,
        },
    )


if __name__ == "__main__":
    main()
