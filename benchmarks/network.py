"""What `train_step` and `inference` share: a config's network, a batch, and their command line."""

import argparse
import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from benchmarks import machine, turns
from lts_jax import __version__, experiment, sharding
from lts_jax.cli import requested_config
from lts_jax.data.tokenizer import Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.models import LTS
from lts_jax.optim import make_optimizer, make_schedule
from lts_jax.steps import TrainState, compile_train_step, variables_of
from lts_jax.writers import write_json

VOCABULARY = Vocabulary([f"word{i}" for i in range(9340)])
"""About as large as RefCOCO's."""
SWEEPS = {
    "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "size": (320, 352, 384, 416, 448, 480),
    "words": (5, 10, 15, 20, 30, 50),
}


class Network(NamedTuple):
    """A config's network with random weights, and what trains it."""

    config: ConfigDict
    model: LTS
    optimizer: Any
    state: TrainState
    mesh: jax.sharding.Mesh


def make_network(config_file: str, overrides: Sequence[str], size: int) -> Network:
    """Builds the network of a config, for images of `size` × `size`."""
    config = requested_config(config_file, overrides)
    config.data.image_size = size
    model = experiment.make_model(config, VOCABULARY)
    optimizer = make_optimizer(make_schedule(1e-3, (30,), 0.1, 6701))
    mesh = sharding.make_mesh()
    state = experiment.fresh_state(config, model, optimizer, mesh)
    return Network(config, model, optimizer, state, mesh)


def plan_step(config: ConfigDict, mesh: jax.sharding.Mesh, batch: int) -> tuple[TrainState, Any]:
    """Compiles a training step without computing anything: the abstract state, and the program."""
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
    per_image, parts = config.train.sentences_per_image, config.train.accumulate
    sharding.check_batch_size("--batch", batch, mesh, parts, per_image)
    examples = make_batch(config, batch, per_image)
    return state, step.lower(state, examples).compile()


def make_batch(config: ConfigDict, batch: int, per_image: int = 1) -> dict[str, np.ndarray]:
    """Draws random pixels, sentences and masks; the time of a step does not depend on them."""
    rng = np.random.default_rng(0)
    size, words, images = config.data.image_size, config.data.max_words, batch // per_image
    return {
        "image": rng.integers(0, 256, (images, size, size, 3), dtype=np.uint8),
        "tokens": rng.integers(1, len(VOCABULARY), (batch, words), dtype=np.int32),
        "length": rng.integers(1, words + 1, batch, dtype=np.int32),
        **{f"truth{k}": rng.integers(0, 2, (batch, size // k, size // k), dtype=np.uint8)
           for k in (4, 8)},
    }  # fmt: skip


def fields_of(model: LTS) -> dict[str, Any]:
    """Returns the network's fields as its twin takes them."""
    names = [n for n in LTS.__dataclass_fields__ if n not in ("parent", "name", "dtype", "remat")]
    return {name: getattr(model, name) for name in names}


def torch_peers(network: Network, examples: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns a `benchmarks.torch_peer.Peer` with the network's weights for each of its ways.

    They encode an image for each sentence.
    """
    from benchmarks import torch_peer

    config = network.config
    per_image = len(examples["tokens"]) // len(examples["image"])
    examples = {**examples, "image": np.repeat(examples["image"], per_image, axis=0)}
    return {
        way: torch_peer.Peer(
            way,
            fields_of(network.model),
            jax.device_get(variables_of(network.state)),
            examples,
            bfloat16=config.model.dtype == "bfloat16",
            location_weight=config.train.location_weight,
        )
        for way in torch_peer.WAYS
    }


def out_of_memory(error: Exception) -> bool:
    """Tells whether a device had too little memory, in JAX or PyTorch."""
    text = f"{type(error).__name__} {error}"
    return "RESOURCE_EXHAUSTED" in text or "OutOfMemory" in text or "out of memory" in text


def run(
    description: str,
    measure: Callable[[argparse.Namespace, int, int], dict[str, Any]],
    argv: Sequence[str] | None,
) -> None:
    """Runs a benchmark over batch or image sizes, prints its tables and writes its JSON.

    Args:
      description: of the command.
      measure: of arguments, image size and batch size; what it returns holds `rows` by way, as
        `turns.summarize` makes them of `args.rate`.
      argv: the command line.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--config",
        required=True,
        help="config file, or <file>:<variant>; --config.model.dtype=bfloat16 sets a field",
    )
    parser.add_argument("--batch", type=int, default=2, help="sentences")
    parser.add_argument("--size", type=int, default=416, help="side of the images, pixels")
    parser.add_argument("--sweep", choices=[*SWEEPS], help="measure at many of these")
    parser.add_argument("--against", choices=["torch"], help="the peer, in turn")
    parser.add_argument("--steps", type=int, default=1, help="in a turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each way")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args, overrides = parser.parse_known_args(argv)
    args.overrides = overrides
    if unknown := [text for text in overrides if not text.startswith("--config.")]:
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    one = {"size": args.size, "batch": args.batch}
    points = [one | {args.sweep: value} for value in SWEEPS[args.sweep]] if args.sweep else [one]
    try:
        dtype = requested_config(args.config, overrides).model.dtype
    except ConfigError as error:
        raise SystemExit(f"error: {error}") from error
    rate = turns.matrix_rate(dtype)
    device = jax.devices()[0]
    result: dict[str, Any] = {
        "arguments": {k: str(v) for k, v in vars(args).items() if v is not None},
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "matrix_rate": {dtype: rate},
        "load_average": turns.load_average(),
        "points": [],
        "lts_jax": __version__,
        **machine.describe(("jax", "jaxlib", "flax", *(["torch"] if args.against else []))),
    }
    print(f"{result['device']}; {result['cpu']}, {result['cpu_cores']} cores; {result['date']}")
    print(f"matrix product in {dtype}: {rate / 1e9:.0f} GFLOP/s on one device")
    args.rate = rate
    for numbers in points:
        if "words" in numbers:
            args.overrides = [*overrides, f"--config.data.max_words={numbers['words']}"]
        try:
            point = measure(args, numbers["size"], numbers["batch"])
        except ConfigError as error:
            if not args.sweep:
                raise SystemExit(f"error: {error}") from error
            point = {"skipped": str(error)}
        except Exception as error:  # the classes are of two frameworks
            if not out_of_memory(error):
                raise
            point = {"out_of_memory": True}
        result["points"].append(numbers | point)
        print("\n" + ", ".join(f"{name} {value}" for name, value in numbers.items()))
        print(
            turns.table(point["rows"], "ours")
            if "rows" in point
            else point.get("skipped", "out of memory")
        )
        if args.out:  # after each point: a sweep may be stopped
            write_json(args.out, result)
        if "out_of_memory" in point and args.sweep == "batch":
            break
        gc.collect()
