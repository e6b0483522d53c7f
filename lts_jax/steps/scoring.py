"""Compares predicted maps with the truth, at the images' own sizes."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt8

from lts_jax.models import Network, Outputs, PreparedImage
from lts_jax.state.train_state import TrainState
from lts_jax.steps import original_size
from lts_jax.steps.inference import Batch, on_each_device, refer

ScoreStep = Callable[[TrainState, PreparedImage, jax.Array, Batch], dict[str, jax.Array]]

# Thresholds at which a report draws the IoU, and of which the best one is chosen.
CURVE = tuple(round(0.05 * i, 2) for i in range(1, 20))
OTHER = "other_"  # begins the names of what is scored at the second threshold


def score(
    outputs: Outputs,
    placement: Int[Array, "b 6"],
    truth: UInt8[Array, "b h packed_w"],
    *,
    image_size: int,
    thresholds: Sequence[float],
    pictures: bool = False,
) -> dict[str, jax.Array]:
    """Predicts masks at the original sizes and compares them with the truth.

    Args:
      outputs: the network's logits for B sentences; their strides are read from their shapes.
      placement: int32 `[B, 6]`, see `lts_jax.steps.original_size`.
      truth: uint8 `[B, h, w / 8]`, masks as `numpy.packbits` packs their rows; h × w is the canvas,
        0 outside the image.
      image_size: side of the network's input, pixels.
      thresholds: pixels of a greater probability are foreground; one, or two to compare.
      pictures: whether to return what files and pictures need.

    Returns:
      `intersection`, `union` and `area` (of the truth) int32 `[B]` in pixels; `finite` bool `[B]`,
      whether all logits are; `boxes` int32 `[B, 2, 4]`, x0, y0, x1, y1 of the predicted mask and of
      the truth, the last ones exclusive, all 0 for an empty mask; `curve` int32
      `[B, 2, len(CURVE)]`, intersection and union at these thresholds; with a locator also
      `point` int32 `[B, 2]`, column and row of the pixel under the last round's maximum, -1 in the
      letterbox's border, and `hit` bool `[B]`, whether it lies in the truth.
      With `pictures` also `prediction`, packed as `truth`, and with a locator `heatmap` uint8
      `[B, rounds, H/8, W/8]`, probabilities times 255. With a second threshold also
      `other_intersection`, `other_union`, `other_boxes` and, with `pictures`, `other_prediction`.
    """
    canvas = truth.shape[1], 8 * truth.shape[2]
    inside = jnp.unpackbits(truth, axis=-1) > 0
    probability = full_probability(outputs.mask, placement, image_size, canvas)
    area = _count(inside)

    def compare(threshold: float, prefix: str) -> dict[str, jax.Array]:
        prediction = probability > threshold
        intersection = _count(prediction & inside)
        compared = {
            "intersection": intersection,
            "union": area + _count(prediction) - intersection,
            "boxes": jnp.stack([_box(prediction), _box(inside)], axis=1),
        }
        if pictures:
            compared["prediction"] = jnp.packbits(prediction, axis=-1)
        return {prefix + name: values for name, values in compared.items()}

    def at(threshold: jax.Array) -> jax.Array:
        above = probability > threshold
        both = _count(above & inside)
        return jnp.stack([both, area + _count(above) - both], axis=1)

    scores = {"area": area, "finite": outputs.finite()}
    for threshold, prefix in zip(thresholds, ("", OTHER), strict=False):
        scores |= compare(threshold, prefix)
    scores["curve"] = jnp.moveaxis(jax.lax.map(at, jnp.array(CURVE)), 0, -1)
    if outputs.heatmap is not None:
        last = outputs.heatmap[:, -1]
        row, column, in_image = original_size.peak_at_original_size(
            last, placement, image_size // last.shape[1]
        )
        hit = jax.vmap(lambda mask, row, column: mask[row, column])(inside, row, column)
        scores["hit"] = hit & in_image
        scores["point"] = jnp.where(in_image[:, None], jnp.stack([column, row], axis=1), -1)
        if pictures:
            scores["heatmap"] = jnp.round(255 * jax.nn.sigmoid(outputs.heatmap)).astype(jnp.uint8)
    return scores


def full_probability(
    mask: Float[Array, "b g g"],
    placement: Int[Array, "b 6"],
    image_size: int,
    canvas: tuple[int, int],
) -> Float[Array, "b h w"]:
    """Maps logits `[B, G, G]` to probabilities float32 `[B, *canvas]`, 0 outside the images."""
    stride = image_size // mask.shape[1]
    return original_size.to_original_size(jax.nn.sigmoid(mask), placement, canvas, stride)


def _count(mask: Bool[Array, "b h w"]) -> Int[Array, " b"]:
    return jnp.sum(mask, axis=(1, 2), dtype=jnp.int32)


def _box(mask: Bool[Array, "b h w"]) -> Int[Array, "b 4"]:
    def ends(axis: int) -> tuple[jax.Array, jax.Array]:
        there = jnp.any(mask, axis=axis)
        first = jnp.argmax(there, axis=1)
        last = there.shape[1] - jnp.argmax(there[:, ::-1], axis=1)
        return first, jnp.where(jnp.any(there, axis=1), last, 0)

    (x0, x1), (y0, y1) = ends(1), ends(2)
    return jnp.stack([x0, y0, x1, y1], axis=1).astype(jnp.int32)


def score_step(
    state: TrainState,
    features: PreparedImage,
    placement: Int[Array, "k 6"],
    batch: Batch,
    *,
    model: Network,
    thresholds: Sequence[float],
    pictures: bool,
) -> dict[str, jax.Array]:
    """Predicts and scores B sentences about K encoded images; returns what `score` does.

    Args:
      state: with the parameters.
      features: of the K images.
      placement: int32 `[K, 6]`, of the K images.
      batch: as for `lts_jax.steps.inference.refer`, with the packed masks `truth`.
      model: the network.
      thresholds: pixels of a greater probability are foreground; one or two.
      pictures: whether to return what files and pictures need.
    """
    return score(
        refer(model, state, features, batch),
        placement[batch["image"]],
        batch["truth"],
        image_size=8 * features.taps.stride8.shape[1],
        thresholds=thresholds,
        pictures=pictures,
    )


def compile_score_step(
    model: Network, thresholds: Sequence[float], mesh: Mesh, *, pictures: bool = False
) -> ScoreStep:
    """Compiles `score_step`: images and sentences are split over the mesh.

    A device finds the images of its sentences in its own memory: `image` counts those alone.
    """
    step = partial(score_step, model=model, thresholds=tuple(thresholds), pictures=pictures)
    return on_each_device(step, mesh)
