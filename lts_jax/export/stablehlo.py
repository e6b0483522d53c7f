"""Exports the network as StableHLO, for any batch size, on cpu, cuda and tpu."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from jax import export

from lts_jax.experiment.restore import Trained
from lts_jax.models import Network
from lts_jax.steps.inference import to_float

PLATFORMS = ("cpu", "cuda", "tpu")


def predictor(model: Network) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """Returns the function to export.

    Its arguments are the weights by path, and the inputs by name: `image` uint8 `[B, S, S, 3]`,
    `tokens` int32 `[B, T]` and `length` int32 `[B]`. It returns float32 probabilities: `mask`
    `[B, G, G]` and, with a locator, `heatmap` `[B, rounds, S/8, S/8]`.
    """

    def predict(weights: dict[str, jax.Array], inputs: dict[str, jax.Array]) -> dict[str, Any]:
        outputs: Any = model.apply(
            unflatten_dict(weights, sep="/"),
            to_float(inputs["image"]),
            inputs["tokens"],
            inputs["length"],
            train=False,
        )
        result = {"mask": jax.nn.sigmoid(outputs.mask)}
        if outputs.heatmap is not None:
            result["heatmap"] = jax.nn.sigmoid(outputs.heatmap)
        return result

    return predict


def make_stablehlo(trained: Trained) -> bytes:
    """Returns the serialized function of `predictor`."""
    data = trained.experiment.config.data
    size, words = data.image_size, data.max_words
    (b,) = export.symbolic_shape("b")
    inputs = {
        "image": jax.ShapeDtypeStruct((b, size, size, 3), jnp.uint8),
        "tokens": jax.ShapeDtypeStruct((b, words), jnp.int32),
        "length": jax.ShapeDtypeStruct((b,), jnp.int32),
    }
    weights = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in trained.arrays.items()}
    function = jax.jit(predictor(trained.experiment.model))
    exported = export.export(function, platforms=PLATFORMS)(weights, inputs)
    return bytes(exported.serialize())
