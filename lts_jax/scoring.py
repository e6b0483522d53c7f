"""Scores maps against the truth, at the images' own sizes; pure, and without a network."""

import jax
import jax.numpy as jnp

from lts_jax import mapping
from lts_jax.models.lts import Outputs

# Thresholds at which a report draws the IoU.
CURVE = tuple(round(0.05 * i, 2) for i in range(1, 20))


def score(
    outputs: Outputs,
    placement: jax.Array,
    truth: jax.Array,
    *,
    image_size: int,
    threshold: float,
    pictures: bool = False,
) -> dict[str, jax.Array]:
    """Predicts masks at the original sizes and compares them with the truth.

    Args:
      outputs: the network's logits for B sentences; their strides are read from their shapes.
      placement: int32 `[B, 6]`, see `lts_jax.mapping`.
      truth: uint8 `[B, h, w / 8]`, masks as `numpy.packbits` packs their rows; h × w is the canvas,
        0 outside the image.
      image_size: side of the network's input, pixels.
      threshold: pixels of a greater probability are foreground.
      pictures: whether to return what files and pictures need.

    Returns:
      `intersection`, `union` and `area` (of the truth) int32 `[B]` in pixels; with a locator also
      `point` int32 `[B, 2]`, column and row of the pixel under the last round's maximum, -1 in the
      letterbox's border, and `hit` bool `[B]`, whether it lies in the truth.
      With `pictures` also `prediction`, packed as `truth`; `curve` int32 `[B, 2, len(CURVE)]`,
      intersection and union at these thresholds; and with a locator `heatmap` uint8
      `[B, rounds, H/8, W/8]`, probabilities times 255.
    """
    canvas = truth.shape[1], 8 * truth.shape[2]
    inside = jnp.unpackbits(truth, axis=-1) > 0
    probability = full_probability(outputs.mask, placement, image_size, canvas)
    prediction = probability > threshold
    area = _count(inside)
    intersection = _count(prediction & inside)
    scores = {
        "intersection": intersection,
        "union": area + _count(prediction) - intersection,
        "area": area,
    }
    if outputs.heatmap is not None:
        last = outputs.heatmap[:, -1]
        row, column, in_image = mapping.peak_at_original_size(
            last, placement, image_size // last.shape[1]
        )
        hit = jax.vmap(lambda mask, row, column: mask[row, column])(inside, row, column)
        scores["hit"] = hit & in_image
        scores["point"] = jnp.where(in_image[:, None], jnp.stack([column, row], axis=1), -1)
    if pictures:
        scores["prediction"] = jnp.packbits(prediction, axis=-1)

        def at(threshold: jax.Array) -> jax.Array:
            above = probability > threshold
            both = _count(above & inside)
            return jnp.stack([both, area + _count(above) - both], axis=1)

        scores["curve"] = jnp.moveaxis(jax.lax.map(at, jnp.array(CURVE)), 0, -1)
        if outputs.heatmap is not None:
            scores["heatmap"] = jnp.round(255 * jax.nn.sigmoid(outputs.heatmap)).astype(jnp.uint8)
    return scores


def full_probability(
    mask: jax.Array, placement: jax.Array, image_size: int, canvas: tuple[int, int]
) -> jax.Array:
    """Maps logits `[B, G, G]` to probabilities float32 `[B, *canvas]`, 0 outside the images."""
    stride = image_size // mask.shape[1]
    return mapping.to_original_size(jax.nn.sigmoid(mask), placement, canvas, stride)


def _count(mask: jax.Array) -> jax.Array:
    return jnp.sum(mask, axis=(1, 2), dtype=jnp.int32)
