"""Memory of a training step as XLA plans it, in one run: what each way to save it saves.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 \\
      python -m benchmarks.memory --config configs/refcoco.py --out memory.json

Nothing is computed and no data is needed. The numbers are of one device, and of the program that
XLA makes for the devices it runs on.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import jax
import optax

from benchmarks.machine import describe
from benchmarks.network import VOCABULARY, make_batch
from lts_jax import experiment, sharding
from lts_jax.cli import requested_config
from lts_jax.steps import compile_train_step
from lts_jax.writers import format_table, write_json

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "train.remat=True": {"remat": True},
    "train.accumulate=4": {"accumulate": 4},
    "train.accumulate=4, train.remat=True": {"accumulate": 4, "remat": True},
    "4 devices": {"devices": 4},
    "4 devices, train.shard_params=4": {"devices": 4, "shard_params": 4},
}


def measure(config_file: str, batch: int, way: dict[str, Any]) -> dict[str, float]:
    """MiB of the state, which lasts, and of what a step needs beside it."""
    config = requested_config(config_file, [])
    config.train.update({k: v for k, v in way.items() if k != "devices"})
    mesh = sharding.make_mesh(jax.devices()[: way.get("devices", 1)], config.train.shard_params)
    model = experiment.make_model(config, VOCABULARY)
    optimizer = experiment.make_train_optimizer(config.train, optax.constant_schedule(1e-3))
    state = experiment.abstract_state(config, model, optimizer, mesh)
    step: Any = compile_train_step(
        model,
        optimizer,
        config.train.location_weight,
        mesh,
        accumulate=config.train.accumulate,
        place=experiment.places(state),
    )
    plan = step.lower(state, make_batch(config, batch)).compile().memory_analysis()
    on_one = [math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(state)]
    return {
        "state": 4 * sum(on_one) / 2**20,
        "step": plan.temp_size_in_bytes / 2**20,
    }


def main() -> None:
    """Measures every way, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found = {}
    for name, way in WAYS.items():
        found[name] = measure(args.config, args.batch, way)
        print(name, found[name], flush=True)
    rows = [[name, *(f"{value:.0f}" for value in mib.values())] for name, mib in found.items()]
    print(format_table(("MiB on one device", "state", "step"), rows))
    machine = describe(("jax", "jaxlib", "flax"))
    platform = jax.devices()[0].platform
    write_json(
        args.out,
        {"config": args.config, "batch": args.batch, "platform": platform, **machine, "mib": found},
    )


if __name__ == "__main__":
    main()
