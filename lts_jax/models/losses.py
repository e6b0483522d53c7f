"""The losses of Section 3.4, computed from logits, with the minus signs missing in Eq. 11 and 12.

Both losses are summed over pixels and averaged over the batch. With a mean over pixels, the weight
λ of the location loss would be four times as large.
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
    """Computes L_seg (Eq. 11).

    Args:
      mask: logits of P_mask, `[B, H/4, W/4]`, or `[B, H/8, W/8]` without a segmenter.
      truth: ground truth in {0, 1}, of the same shape.
    """
    _check_shapes(mask, truth)
    by_pixel: jax.Array = optax.sigmoid_binary_cross_entropy(mask, truth)
    return by_pixel.sum(axis=(1, 2)).mean()


def location_loss(
    heatmap: Float[Array, "b rounds h w"], truth: Float[Array, "b h w"]
) -> Float[Array, ""]:
    """Computes L_loc (Eq. 12), averaged over the locator's rounds.

    Args:
      heatmap: logits of H_mask, `[B, rounds, H/8, W/8]`.
      truth: ground truth in {0, 1}, `[B, H/8, W/8]`.
    """
    _check_shapes(heatmap[:, 0], truth)
    by_pixel: jax.Array = optax.sigmoid_binary_cross_entropy(heatmap, truth[:, None])
    return by_pixel.sum(axis=(2, 3)).mean()


def location_choice_loss(
    heatmap: Float[Array, "b rounds h w"], truth: Float[Array, "b h w"]
) -> Float[Array, ""]:
    """Computes softmax cross-entropy over the cells, averaged over the rounds; replaces L_loc.

    The target is the mask divided by its sum. Unlike in Eq. 12, cells compete, so that the network
    must choose between several candidates. The loss is multiplied by the number of mask cells, as
    the other losses are sums over pixels; it is zero for an empty mask.

    Args:
      heatmap: logits of H_mask, `[B, rounds, H/8, W/8]`.
      truth: ground truth in {0, 1}, `[B, H/8, W/8]`.
    """
    _check_shapes(heatmap[:, 0], truth)
    log_share = jax.nn.log_softmax(heatmap, axis=(2, 3))
    return -(truth[:, None] * log_share).sum(axis=(2, 3)).mean()


LOCATION_LOSSES = {"bce": location_loss, "softmax": location_choice_loss}


def dice_loss(
    logits: Float[Array, "b *maps h w"], truth: Float[Array, "b *maps h w"]
) -> Float[Array, ""]:
    """Computes the Dice loss (Milletari et al., 2016): 1 − (2 Σpt + 1) / (Σp + Σt + 1).

    Small objects have the same weight as large ones. The loss is multiplied by the number of
    pixels, as the other losses are sums over pixels.

    Args:
      logits: logits of one or more maps.
      truth: ground truth in {0, 1}, of a shape that broadcasts to that of the logits.
    """
    p = jax.nn.sigmoid(logits)
    both, total = (p * truth).sum((-2, -1)), (p + truth).sum((-2, -1))
    dice = (2 * both + 1) / (total + 1)
    return (1 - dice).mean() * logits.shape[-2] * logits.shape[-1]


def point_loss(points: Points, truth: Float[Array, "b h w"]) -> Float[Array, ""]:
    """Computes the mean cross-entropy at points, as in PointRend; interpolates the ground truth.

    Args:
      points: points of the network's outputs.
      truth: ground truth in {0, 1}, `[B, H, W]`.
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
    """Computes L = L_seg + λ L_loc (Eq. 13), and returns it with all losses by name.

    Args:
      outputs: outputs of the network; L_loc is omitted without a locator.
      truth4: ground truth in {0, 1}, `[B, H/4, W/4]`, for the segmenter's mask.
      truth8: ground truth in {0, 1}, `[B, H/8, W/8]`, for the heatmap, and masks of this size.
      location_weight: λ.
      dice_weight: weight of the Dice losses added to L_seg and L_loc; 0 (the paper): none.
      location: "bce" (the paper), or "softmax" to replace L_loc by `location_choice_loss`.
      truth1: ground truth in {0, 1}, `[B, H, W]`; required if the outputs have points. The point
        loss is multiplied by the number of mask pixels, as the other losses are sums over pixels.
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
    # With broadcasting, wrong shapes would silently give a wrong loss.
    if logits.shape != truth.shape:
        raise ValueError(
            f"logits and truth must have the same shape, but are {logits.shape} and {truth.shape}"
        )
