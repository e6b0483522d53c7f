"""The losses of Section 3.4, on logits, with the minus signs that Eq. 11 and 12 lack.

Both are summed over pixels and averaged over the batch: under a mean over pixels, the weight λ
of the location loss would act four times stronger.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Num

from lts_jax.models.network import LocationLoss, Outputs
from lts_jax.models.pointrend import Points, sample_points


def segmentation_loss(
    mask: Float[Array, "b h w"], truth: Float[Array, "b h w"]
) -> Float[Array, ""]:
    """L_seg (Eq. 11).

    Args:
      mask: logits of P_mask, `[B, H/4, W/4]`, or at H/8 where the network has no segmenter.
      truth: {0, 1}, of the same shape.
    """
    _check_shapes(mask, truth)
    by_pixel: jax.Array = optax.sigmoid_binary_cross_entropy(mask, truth)
    return by_pixel.sum(axis=(1, 2)).mean()


def location_loss(
    heatmap: Float[Array, "b rounds h w"], truth: Float[Array, "b h w"]
) -> Float[Array, ""]:
    """L_loc (Eq. 12), averaged over the locator's rounds.

    Args:
      heatmap: logits of H_mask, `[B, rounds, H/8, W/8]`.
      truth: {0, 1}, `[B, H/8, W/8]`.
    """
    _check_shapes(heatmap[:, 0], truth)
    by_pixel: jax.Array = optax.sigmoid_binary_cross_entropy(heatmap, truth[:, None])
    return by_pixel.sum(axis=(2, 3)).mean()


def location_choice_loss(
    heatmap: Float[Array, "b rounds h w"], truth: Float[Array, "b h w"]
) -> Float[Array, ""]:
    """In the place of L_loc: softmax cross-entropy over the cells, averaged over the rounds.

    The target is the mask divided by its sum, so that cells compete: of two candidates the network
    has to choose one, where by Eq. 12 each cell is judged by itself. As the other losses are sums
    over pixels, this is multiplied by the number of the mask's cells; an empty mask has no loss.

    Args:
      heatmap: logits of H_mask, `[B, rounds, H/8, W/8]`.
      truth: {0, 1}, `[B, H/8, W/8]`.
    """
    _check_shapes(heatmap[:, 0], truth)
    log_share = jax.nn.log_softmax(heatmap, axis=(2, 3))
    return -(truth[:, None] * log_share).sum(axis=(2, 3)).mean()


LOCATION_LOSSES = {"bce": location_loss, "softmax": location_choice_loss}


def dice_loss(
    logits: Float[Array, "b *maps h w"], truth: Float[Array, "b *maps h w"]
) -> Float[Array, ""]:
    """Dice loss (Milletari et al., 2016): 1 − 2 Σpt / (Σp + Σt), with 1 added above and below.

    A small object counts as much as a large one. As the other losses are sums over pixels, this is
    multiplied by their number.

    Args:
      logits: of maps.
      truth: {0, 1}, of a shape that broadcasts to that of the logits.
    """
    p = jax.nn.sigmoid(logits)
    both, total = (p * truth).sum((-2, -1)), (p + truth).sum((-2, -1))
    dice = (2 * both + 1) / (total + 1)
    return (1 - dice).mean() * logits.shape[-2] * logits.shape[-1]


def point_loss(points: Points, truth: Float[Array, "b h w"]) -> Float[Array, ""]:
    """The mean cross-entropy of points, as PointRend's, against the truth interpolated there.

    Args:
      points: of the network.
      truth: {0, 1}, `[B, H, W]`.
    """
    there = sample_points(truth[..., None], points.places)[..., 0]
    by_point: jax.Array = optax.sigmoid_binary_cross_entropy(points.logits, there)
    return by_point.mean()


def total_loss(
    outputs: Outputs,
    truth4: Num[Array, "b h4 w4"],
    truth8: Num[Array, "b h8 w8"],
    location_weight: float,
    dice_weight: float = 0.0,
    location: LocationLoss = "bce",
    truth1: Num[Array, "b h w"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """L = L_seg + λ L_loc (Eq. 13), and the losses by name.

    Args:
      outputs: of the network; without a locator there is no L_loc.
      truth4: {0, 1}, `[B, H/4, W/4]`: the truth of a segmenter's mask.
      truth8: {0, 1}, `[B, H/8, W/8]`: the truth of the heatmap, and of a mask at its size.
      location_weight: λ.
      dice_weight: of a Dice loss beside each of the two; 0, the paper's, has none.
      location: "bce", the paper's, or "softmax": `location_choice_loss` in the place of L_loc.
      truth1: {0, 1}, `[B, H, W]`: the truth of points, if the network has some. Their loss, times
        the number of the mask's pixels, is a sum over pixels as the others.
    """
    truth4, truth8 = truth4.astype(jnp.float32), truth8.astype(jnp.float32)
    truth = truth8 if outputs.mask.shape == truth8.shape else truth4
    loss = seg = segmentation_loss(outputs.mask, truth)
    losses = {"segmentation_loss": seg}
    if dice_weight:
        losses["dice_loss"] = dice_loss(outputs.mask, truth)
        loss = loss + dice_weight * losses["dice_loss"]
    if outputs.heatmap is not None:
        losses["location_loss"] = LOCATION_LOSSES[location](outputs.heatmap, truth8)
        loss = loss + location_weight * losses["location_loss"]
        if dice_weight:
            losses["location_dice_loss"] = dice_loss(outputs.heatmap, truth8[:, None])
            loss = loss + location_weight * dice_weight * losses["location_dice_loss"]
    if outputs.points is not None:
        assert truth1 is not None
        pixels = truth.shape[1] * truth.shape[2]
        losses["point_loss"] = pixels * point_loss(outputs.points, truth1.astype(jnp.float32))
        loss = loss + losses["point_loss"]
    return loss, {"loss": loss, **losses}


def _check_shapes(logits: jax.Array, truth: jax.Array) -> None:
    # Broadcasting would turn a wrong shape into a wrong loss.
    if logits.shape != truth.shape:
        raise ValueError(f"logits {logits.shape} and truth {truth.shape} must have one shape")
