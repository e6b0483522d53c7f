"""Scores maps against the truth, at the images' own sizes; pure, and without a network."""

import jax
import jax.numpy as jnp

from lts_jax import mapping
from lts_jax.models.lts import Outputs


def score(
    outputs: Outputs,
    placement: jax.Array,
    truth: jax.Array,
    *,
    image_size: int,
    canvas: tuple[int, int],
    threshold: float,
) -> dict[str, jax.Array]:
    """Predicts masks at the original sizes and compares them with the truth.

    Args:
      outputs: the network's logits for B sentences; their strides are read from their shapes.
      placement: int32 `[B, 6]`, see `lts_jax.mapping`.
      truth: uint8 `[B, canvas height, ⌈canvas width / 8⌉]`, masks as `numpy.packbits` packs
        their rows, 0 outside the image.
      image_size: side of the network's input, pixels.
      canvas: height and width that hold every image, pixels.
      threshold: pixels of a greater probability are foreground.

    Returns:
      `prediction` bool `[B, *canvas]` and `intersection` and `union` int32 `[B]` in pixels; with a
      locator also `pointing` bool `[B]`, whether the last round's maximum falls inside the truth,
      and `heatmap` float32 `[B, rounds, H/8, W/8]`, probabilities.
    """
    inside = jnp.unpackbits(truth, axis=-1, count=canvas[1]) > 0
    probability = full_probability(outputs.mask, placement, image_size, canvas)
    prediction = probability > threshold
    scores = {
        "prediction": prediction,
        "intersection": jnp.sum(prediction & inside, axis=(1, 2), dtype=jnp.int32),
        "union": jnp.sum(prediction | inside, axis=(1, 2), dtype=jnp.int32),
    }
    if outputs.heatmap is not None:
        last = outputs.heatmap[:, -1]
        stride = image_size // last.shape[1]
        row, column, in_image = mapping.peak_at_original_size(last, placement, stride)
        # By vmap: indexed by jnp.arange, it would need traffic between devices.
        hit = jax.vmap(lambda mask, row, column: mask[row, column])(inside, row, column)
        scores["pointing"] = hit & in_image
        scores["heatmap"] = jax.nn.sigmoid(outputs.heatmap)
    return scores


def full_probability(
    mask: jax.Array, placement: jax.Array, image_size: int, canvas: tuple[int, int]
) -> jax.Array:
    """Maps logits `[B, G, G]` to probabilities float32 `[B, *canvas]`, 0 outside the images."""
    stride = image_size // mask.shape[1]
    return mapping.to_original_size(jax.nn.sigmoid(mask), placement, canvas, stride)
