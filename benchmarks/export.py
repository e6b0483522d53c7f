"""Compares the latency and the outputs of exported networks with the jitted network.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
      python -m benchmarks.export --config configs/refcoco.py --against torch --out export.json

`--against torch` adds the same network in eager PyTorch, in both memory formats. The network has
the config's size, random weights, and BatchNorm statistics of random images, so that its
activations have about the same scale as a trained network's.
"""

import functools
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnxruntime

from benchmarks.arguments import make_parser, parse_arguments
from benchmarks.machine import describe, load_average
from benchmarks.network import SyntheticExperiment, fields_of
from benchmarks.timing import alternate
from lts_jax.config.flags import load_config
from lts_jax.distributed.mesh import one_device
from lts_jax.experiment.experiment import Experiment
from lts_jax.experiment.restore import Trained
from lts_jax.export.bundle import write_folder
from lts_jax.export.stablehlo import predictor
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json
from lts_jax.state.train_state import variables_of
from lts_jax.steps.inference import to_float

Way = Callable[[Any], dict[str, np.ndarray]]


def make_network(config_file: str, overrides: Sequence[str]) -> Trained:
    """Initializes the config's network, with BatchNorm statistics of two random images."""
    experiment = SyntheticExperiment(load_config(config_file, overrides), one_device())
    state = experiment.initial_state().network()
    inputs = inputs_of(experiment, 2, 1)

    @jax.jit
    def statistics_of(variables: Any, inputs: Any) -> Any:
        args = to_float(inputs["image"]), inputs["tokens"], inputs["length"]
        _, updated = experiment.model.apply(variables, *args, train=True, mutable=["batch_stats"])
        # One update of the running average adds a tenth of the batch's mean and variance.
        return jax.tree.map(
            lambda new, old: (new - 0.9 * old) * 10,
            updated["batch_stats"],
            variables["batch_stats"],
        )

    state = state.replace(batch_stats=statistics_of(variables_of(state), inputs))
    return Trained(experiment, state, step=0, config={}, data={}, weights={})


def inputs_of(experiment: Experiment, batch: int, seed: int) -> dict[str, np.ndarray]:
    """Generates smooth random images and random sentences."""
    rng = np.random.default_rng(seed)
    data = experiment.config.data
    size, words = data.image_size, data.max_words
    coarse = rng.integers(0, 256, (batch, size // 32, size // 32, 3))
    fine = coarse.repeat(32, 1).repeat(32, 2) + rng.integers(-20, 20, (batch, size, size, 3))
    return {
        "image": np.clip(fine, 0, 255).astype(np.uint8),
        "tokens": rng.integers(1, len(experiment.vocabulary), (batch, words)).astype(np.int32),
        "length": rng.integers(1, words + 1, batch).astype(np.int32),
    }


def ways_of(trained: Trained, folder: Path) -> dict[str, Way]:
    """Returns the jitted network and both exported networks, loaded from their files."""
    weights = jax.device_put(trained.arrays)
    jitted = jax.jit(predictor(trained.experiment.model))
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
    """Returns the same network in PyTorch, in both memory formats."""
    import torch

    from benchmarks.peer.lts import TorchLTS
    from benchmarks.peer.weights import to_torch

    experiment = trained.experiment
    max_words = experiment.config.data.max_words

    def way(memory_format: Any) -> Way:
        twin: Any = TorchLTS(**fields_of(experiment.model), max_words=max_words)
        twin.load_state_dict(to_torch(variables_of(trained.state), twin))
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
    """Times the networks, alternating, and compares their probabilities."""
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
        "image_size": trained.experiment.config.data.image_size,
        "folder_bytes": bytes_of,
        "by_batch": {
            str(batch): measure(ways, inputs_of(trained.experiment, batch, 0), repeats)
            for batch in batches
        },
        "device": f"{device.device_kind} ({device.platform})",
        "load_average": load_average(),
        **describe(["jax", "onnxruntime", *(["torch"] if torch else [])]),
    }


def measure(ways: dict[str, Way], data: dict[str, np.ndarray], repeats: int) -> dict[str, Any]:
    """Times each network on one batch and compares its probabilities with the jitted network's."""
    calls = {name: functools.partial(way, data) for name, way in ways.items()}
    outputs, seconds = alternate(calls, repeats)
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
    """Prints a table per batch size."""
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__, config=True)
    parser.add_argument("--against", choices=["torch"], help="compare with PyTorch, alternating")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=7, help="number of timed calls per network")
    args = parse_arguments(parser, arguments)
    trained = make_network(args.config, args.overrides)
    measured = benchmark(trained, args.batch, args.repeats, args.against == "torch")
    result = {"config": args.config, **measured}
    print_result(result)
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
