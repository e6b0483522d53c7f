"""Latency of the exported networks against the jitted one, in one run, and their differences.

    python -m benchmarks.export --config configs/refcoco.py --against torch --out export.json

`--against torch` adds the same network in PyTorch, eager, in both memory formats. The network has
the config's full size and random weights with statistics of random images, so that the numbers in
it are those of a trained one; a word list of the size of RefCOCO's.
"""

import argparse
import functools
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from flax.traverse_util import unflatten_dict

from benchmarks.machine import describe
from benchmarks.network import VOCABULARY, fields_of
from benchmarks.turns import load_average, take_turns
from lts_jax.cli import requested_config
from lts_jax.experiment import make_model
from lts_jax.export.folder import Trained, flat_weights, predictor, write_folder
from lts_jax.huge_pages import start_again
from lts_jax.writers import format_table

Way = Callable[[Any], dict[str, np.ndarray]]


def make_network(config_file: str, overrides: list[str]) -> Trained:
    """The config's network, its BatchNorm statistics those of two random images."""
    config = requested_config(config_file, overrides)
    model = make_model(config, VOCABULARY)
    images, tokens, lengths = inputs_of(config, 2, 1).values()

    @jax.jit
    def draw() -> Any:
        args = (images / jnp.float32(255), tokens, lengths)
        variables = model.init(jax.random.key(0), *args, train=False)
        _, seen = model.apply(variables, *args, train=True, mutable=["batch_stats"])
        # One step of the running average holds a tenth of the batch's mean and variance.
        stats = jax.tree.map(
            lambda new, old: (new - 0.9 * old) * 10, seen["batch_stats"], variables["batch_stats"]
        )
        return {**variables, "batch_stats": stats}

    return Trained(model, flat_weights(draw()), config, list(VOCABULARY.words), {})


def inputs_of(config: Any, batch: int, seed: int) -> dict[str, np.ndarray]:
    """Smooth random images and random sentences."""
    rng = np.random.default_rng(seed)
    size, words = config.data.image_size, config.data.max_words
    coarse = rng.integers(0, 256, (batch, size // 32, size // 32, 3))
    fine = coarse.repeat(32, 1).repeat(32, 2) + rng.integers(-20, 20, (batch, size, size, 3))
    return {
        "image": np.clip(fine, 0, 255).astype(np.uint8),
        "tokens": rng.integers(1, len(VOCABULARY), (batch, words)).astype(np.int32),
        "length": rng.integers(1, words + 1, batch).astype(np.int32),
    }


def ways_of(trained: Trained, folder: Path) -> dict[str, Way]:
    """The jitted network, and both exported ones loaded from their files."""
    weights = jax.device_put(trained.weights)
    jitted = jax.jit(predictor(trained.model))
    for kind in ("stablehlo", "onnx"):
        write_folder(trained, kind, folder / kind)
    exported = jax.export.deserialize(
        bytearray((folder / "stablehlo" / "model.stablehlo").read_bytes())
    )
    reloaded = jax.device_put(dict(np.load(folder / "stablehlo" / "weights.npz")))
    call = jax.jit(exported.call)
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    return {
        "jitted": lambda x: jax.device_get(jitted(weights, x)),
        "stablehlo": lambda x: jax.device_get(call(reloaded, x)),
        "onnx": lambda x: dict(zip(names, session.run(names, x), strict=True)),
    }


def torch_ways(trained: Trained) -> dict[str, Way]:
    """The same network in PyTorch, from the same inputs, in either memory format."""
    import torch

    from benchmarks.torch_lts import TorchLTS
    from benchmarks.torch_weights import to_torch

    def way(memory_format: Any) -> Way:
        twin: Any = TorchLTS(**fields_of(trained.model), max_words=trained.config.data.max_words)
        twin.load_state_dict(to_torch(unflatten_dict(trained.weights, sep="/"), twin))
        twin.eval().to(memory_format=memory_format)

        def call(x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            image = torch.from_numpy(x["image"]).permute(0, 3, 1, 2).float() / 255
            image = image.contiguous(memory_format=memory_format)
            with torch.inference_mode():
                out = twin(image, *(torch.from_numpy(x[k]).long() for k in ("tokens", "length")))
            named = {"mask": out.mask, "heatmap": out.heatmap}
            return {k: v.sigmoid().numpy() for k, v in named.items() if v is not None}

        return call

    return {
        "torch": way(torch.contiguous_format),
        "torch, channels last": way(torch.channels_last),
    }


def benchmark(trained: Trained, batches: list[int], repeats: int, torch: bool) -> dict[str, Any]:
    """Times the ways by turns, and compares their probabilities."""
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_of(trained, Path(folder))
        bytes_of = {
            kind: sum(f.stat().st_size for f in (Path(folder) / kind).iterdir())
            for kind in ("stablehlo", "onnx")
        }
    if torch:
        ways |= torch_ways(trained)
    device = jax.devices()[0]
    return {
        "image_size": trained.config.data.image_size,
        "folder_bytes": bytes_of,
        "by_batch": {
            str(batch): measure(ways, inputs_of(trained.config, batch, 0), repeats)
            for batch in batches
        },
        "device": f"{device.device_kind} ({device.platform})",
        "load_average": load_average(),
        **describe(["jax", "onnxruntime", *(["torch"] if torch else [])]),
    }


def measure(ways: dict[str, Way], data: dict[str, np.ndarray], repeats: int) -> dict[str, Any]:
    """Seconds of each way with one batch, and how far its probabilities are from the first's."""
    turns = {name: functools.partial(way, data) for name, way in ways.items()}
    outputs, seconds = take_turns(turns, repeats)
    medians = {name: statistics.median(of_way) for name, of_way in seconds.items()}
    return {
        "seconds": seconds,
        "median_seconds": medians,
        "times_jitted": {name: medians["jitted"] / value for name, value in medians.items()},
        "max_abs_probability_difference": {
            name: {k: float(np.abs(v - outputs["jitted"][k]).max()) for k, v in out.items()}
            for name, out in outputs.items()
        },
        "spread_of_probabilities": {k: float(v.std()) for k, v in outputs["jitted"].items()},
    }


def print_result(result: dict[str, Any]) -> None:
    """Prints a table for each batch."""
    print(
        f"{result['config']}: {result['image_size']} pixels; {result['device']}; "
        f"{result['cpu']}, {result['cpu_cores']} cores; {result['date']}"
    )
    for batch, measured in result["by_batch"].items():
        outputs = list(measured["spread_of_probabilities"])
        rows = [
            [
                name,
                f"{measured['median_seconds'][name]:.3f}",
                f"{min(seconds):.3f} to {max(seconds):.3f}",
                f"{measured['times_jitted'][name]:.2f}",
                *(f"{measured['max_abs_probability_difference'][name][k]:.1e}" for k in outputs),
            ]
            for name, seconds in measured["seconds"].items()
        ]
        differences = [f"largest difference, {k}" for k in outputs]
        header = (f"batch {batch}", "median s", "spread", "times jitted", *differences)
        print(format_table(header, rows))


def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--against", choices=["torch"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given, overrides = parser.parse_known_args(arguments)
    trained = make_network(given.config, overrides)
    measured = benchmark(trained, given.batch, given.repeats, given.against == "torch")
    result = {"config": given.config, **measured}
    print_result(result)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    start_again()  # as the command itself does
    main()
