"""Shared code of the network benchmarks: an experiment without data, a batch, and the CLI."""

import argparse
import dataclasses
import gc
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import machine, timing
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax import __version__
from lts_jax.config.flags import load_config
from lts_jax.config.validation import check_config
from lts_jax.distributed.mesh import check_batch_size
from lts_jax.errors import ConfigError
from lts_jax.experiment.experiment import Experiment
from lts_jax.io.files import write_json
from lts_jax.models import LTS, Network
from lts_jax.models.darknet53 import Conventions
from lts_jax.state.train_state import TrainState, variables_of

SWEEPS = {
    "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "size": (320, 352, 384, 416, 448, 480),
    "words": (5, 10, 15, 20, 30, 50),
}


@dataclasses.dataclass(frozen=True)
class SyntheticExperiment(Experiment):
    """An experiment without data, with about RefCOCO's vocabulary size and epoch length."""

    words: Sequence[str] | None = tuple(f"word{i}" for i in range(9340))

    @cached_property
    def steps_per_epoch(self) -> float:
        """Number of training steps per epoch."""
        return 6701.0


def make_batch(experiment: Experiment, batch: int, per_image: int = 1) -> dict[str, np.ndarray]:
    """Generates random pixels, sentences and masks, which do not affect the time of a step."""
    rng = np.random.default_rng(0)
    data, images = experiment.config.data, batch // per_image
    size, words = data.image_size, data.max_words
    return {
        "image": rng.integers(0, 256, (images, size, size, 3), dtype=np.uint8),
        "tokens": rng.integers(1, len(experiment.vocabulary), (batch, words), dtype=np.int32),
        "length": rng.integers(1, words + 1, batch, dtype=np.int32),
        **{f"truth{k}": rng.integers(0, 2, (batch, size // k, size // k), dtype=np.uint8)
           for k in (4, 8)},
    }  # fmt: skip


def compile_step(experiment: Experiment, batch: int) -> tuple[dict[str, np.ndarray], Any]:
    """Compiles a training step; returns a batch of that size and the program.

    Raises:
      ConfigError: the batch is not divisible by the number of devices.
    """
    train = experiment.config.train
    per_image = train.sentences_per_image
    check_batch_size("--batch", batch, experiment.mesh, train.accumulate, per_image)
    examples = make_batch(experiment, batch, per_image)
    step: Any = experiment.train_step
    return examples, step.lower(experiment.abstract_state, examples).compile()


def fields_of(model: Network) -> dict[str, Any]:
    """Returns the fields of the network for `TorchLTS`."""
    if not isinstance(model, LTS):
        raise ValueError("PyTorch implements only model.network=lts")
    if model.backbone_conventions != Conventions():
        raise ValueError("PyTorch implements only model.backbone_conventions=darknet")
    if (model.image_encoder, model.text_encoder) != ("darknet53", "gru"):
        raise ValueError("PyTorch implements only model.backbone=darknet53 and model.text=gru")
    if model.refine != "none" or model.attention_layers:
        raise ValueError("PyTorch implements neither model.refine nor model.attention_layers")
    others = (
        *("parent", "name", "dtype", "remat", "backbone_conventions", "drop_path", "dropout"),
        *("refine", "refine_points", "attention_layers", "attention_words"),
    )
    names = [field.name for field in dataclasses.fields(LTS) if field.name not in others]
    names = [n for n in names if not n.startswith("bert_") and not n.endswith("_encoder")]
    return {name: getattr(model, name) for name in names}


def torch_steps(
    experiment: Experiment, state: TrainState, examples: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Returns a `benchmarks.peer.steps.TorchSteps` with the same weights for each memory format.

    They encode one image per sentence.
    """
    from benchmarks.peer.steps import WAYS, TorchSteps

    config = experiment.config
    per_image = len(examples["tokens"]) // len(examples["image"])
    examples = {**examples, "image": np.repeat(examples["image"], per_image, axis=0)}
    return {
        way: TorchSteps(
            way,
            fields_of(experiment.model),
            jax.device_get(variables_of(state)),
            examples,
            bfloat16=config.model.dtype == "bfloat16",
            location_weight=config.train.location_weight,
        )
        for way in WAYS
    }


def out_of_memory(error: Exception) -> bool:
    """Returns whether a JAX or PyTorch device ran out of memory."""
    text = f"{type(error).__name__} {error}"
    return "RESOURCE_EXHAUSTED" in text or "OutOfMemory" in text or "out of memory" in text


def run(
    description: str | None,
    measure: Callable[[argparse.Namespace, ConfigDict, int], dict[str, Any]],
    arguments: Sequence[str] | None,
) -> None:
    """Runs a benchmark for one or several sizes, prints its tables and writes its JSON.

    Args:
      description: description of the command.
      measure: takes the arguments, the config and the batch size; its result includes `rows` by
        implementation, from `timing.summarize` with `args.rate`.
      arguments: the command line.
    """
    parser = make_parser(description, config=True)
    parser.add_argument("--batch", type=int, default=2, help="sentences")
    parser.add_argument("--size", type=int, default=416, help="side of the images, pixels")
    parser.add_argument(
        "--sweep", choices=[*SWEEPS], help="measure several values of this quantity"
    )
    parser.add_argument("--against", choices=["torch"], help="compare with PyTorch, alternating")
    parser.add_argument("--steps", type=int, default=1, help="number of steps per timed call")
    parser.add_argument(
        "--repeats", type=int, default=5, help="number of timed calls per implementation"
    )
    args = parse_arguments(parser, arguments)
    one = {"size": args.size, "batch": args.batch}
    points = [one | {args.sweep: value} for value in SWEEPS[args.sweep]] if args.sweep else [one]
    try:
        dtype = load_config(args.config, args.overrides).model.dtype
    except ConfigError as error:
        raise SystemExit(f"error: {error}") from error
    rate = timing.matrix_rate(dtype)
    device = jax.devices()[0]
    result: dict[str, Any] = {
        "arguments": {k: str(v) for k, v in vars(args).items() if v is not None},
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "matrix_rate": {dtype: rate},
        "load_average": machine.load_average(),
        "points": [],
        "lts_jax": __version__,
        **machine.describe(("jax", "jaxlib", "flax", *(["torch"] if args.against else []))),
    }
    print(f"{result['device']}; {result['cpu']}, {result['cpu_cores']} cores; {result['date']}")
    print(f"matrix product in {dtype}: {rate / 1e9:.0f} GFLOP/s on one device")
    args.rate = rate
    for numbers in points:
        config = load_config(args.config, args.overrides)
        config.data.image_size = numbers["size"]
        config.data.max_words = numbers.get("words", config.data.max_words)
        try:
            check_config(config)
            point = measure(args, config, numbers["batch"])
        except ConfigError as error:
            if not args.sweep:
                raise SystemExit(f"error: {error}") from error
            point = {"skipped": str(error)}
        except Exception as error:  # from either framework
            if not out_of_memory(error):
                raise
            point = {"out_of_memory": True}
        result["points"].append(numbers | point)
        print("\n" + ", ".join(f"{name} {value}" for name, value in numbers.items()))
        print(
            timing.table(point["rows"], "ours")
            if "rows" in point
            else point.get("skipped", "out of memory")
        )
        if args.out:  # after each point, because a sweep may be interrupted
            write_json(args.out, result)
        if "out_of_memory" in point and args.sweep == "batch":
            break
        gc.collect()
