"""Compares predictions with the ground truth at the original image sizes."""

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

# Thresholds of the IoU curve in reports; the best threshold is selected from these.
CURVE = tuple(round(0.05 * i, 2) for i in range(1, 20))
OTHER = "other_"  # prefix of the scores at the second threshold


def score(
    outputs: Outputs,
    placement: Int[Array, "b 6"],
    truth: UInt8[Array, "b h packed_w"],
    *,
    image_size: int,
    thresholds: Sequence[float],
    pictures: bool = False,
) -> dict[str, jax.Array]:
    """Predicts masks at the original sizes and compares them with the ground truth.

    Args:
      outputs: logits of B sentences; the strides follow from their shapes.
      placement: int32 `[B, 6]`, see `lts_jax.steps.original_size`.
      truth: uint8 `[B, h, w / 8]`, ground-truth masks whose rows are packed by `numpy.packbits`;
        h × w is the canvas, 0 outside the image.
      image_size: side of the network's input in pixels.
      thresholds: probabilities above which pixels are foreground; one, or two to compare.
      pictures: also return the arrays for files and pictures.

    Returns:
      A dict of arrays:
        `intersection`, `union` and `area` (of the ground truth): int32 `[B]`, in pixels.
        `finite`: bool `[B]`, whether all logits are finite.
        `boxes`: int32 `[B, 2, 4]`, x0, y0, x1, y1 (x1 and y1 exclusive) of the predicted mask and
          of the ground truth; all 0 for an empty mask.
        `curve`: int32 `[B, 2, len(CURVE)]`, intersection and union at the thresholds `CURVE`.
        `point` (with a locator): int32 `[B, 2]`, column and row of the pixel at the maximum of the
          last round; -1 in the letterbox border.
        `hit` (with a locator): bool `[B]`, whether the point is in the ground truth.
        `prediction` (with `pictures`): uint8, packed like `truth`.
        `heatmap` (with `pictures` and a locator): uint8 `[B, rounds, H/8, W/8]`, probabilities
          times 255.
        `other_intersection`, `other_union`, `other_boxes` and, with `pictures`,
          `other_prediction`: the scores at the second threshold.
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
    """Maps logits `[B, G, G]` to probabilities, float32 `[B, *canvas]`, 0 outside the images."""
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
    """Predicts and scores B sentences about K encoded images. Returns the result of `score`.

    Args:
      state: the training state with the parameters.
      features: the encoded K images.
      placement: int32 `[K, 6]`, placements of the K images.
      batch: the batch for `lts_jax.steps.inference.refer`, and the packed masks `truth`.
      model: the network.
      thresholds: probabilities above which pixels are foreground; one or two.
      pictures: also return the arrays for files and pictures.
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
    """Compiles `score_step`, with images and sentences split over the mesh.

    Each device holds the images of its own sentences, and `image` is an index into those images.
    """
    step = partial(score_step, model=model, thresholds=tuple(thresholds), pictures=pictures)
    return on_each_device(step, mesh)
