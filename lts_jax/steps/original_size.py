"""Maps from the network's grid to the original images, on the device and with static shapes.

An image's placement is int32 `[6]`: source height and width, then top, left, height and width of
the fitted image in the square input (`lts_jax.data.image_ops.Placement`).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def to_original_size(
    grid: Float[Array, "b g g"],
    placement: Int[Array, "b 6"],
    canvas: tuple[int, int],
    stride: int,
) -> Float[Array, "b h w"]:
    """Interpolates maps bilinearly at the pixel centers of the original images.

    Coordinates have half-pixel centers; values are clamped beyond the outermost cell centers.
    Bilinear interpolation is separable and computed as two matrix products.

    Args:
      grid: float32 `[B, G, G]`, one value per cell of `stride` × `stride` input pixels.
      placement: int32 `[B, 6]`.
      canvas: height and width of the result; every source image must fit.
      stride: input pixels per cell.

    Returns:
      float32 `[B, *canvas]`; pixels outside the source image are 0.
    """

    def one(grid: jax.Array, placement: jax.Array) -> jax.Array:
        source_h, source_w, top, left, height, width = placement
        g = grid.shape[0]
        rows = _weights(canvas[0], g, stride, source_h, top, height)
        columns = _weights(canvas[1], g, stride, source_w, left, width)
        # The default precision of matrix units would move pixels across the threshold.
        return jnp.linalg.multi_dot([rows, grid, columns.T], precision=jax.lax.Precision.HIGHEST)

    return jax.vmap(one)(grid, placement)


def _weights(
    n: int, g: int, stride: int, source: jax.Array, offset: jax.Array, fitted: jax.Array
) -> jax.Array:
    """Returns interpolation weights `[n, g]` of one axis; rows at and after `source` are 0."""
    pixel = jnp.arange(n)
    in_input = (pixel + 0.5) * (fitted / source) + offset
    cell = jnp.clip(in_input / stride - 0.5, 0, g - 1)
    weights = jnp.maximum(0, 1 - jnp.abs(cell[:, None] - jnp.arange(g)))
    return jnp.where(pixel[:, None] < source, weights, 0)


def peak_at_original_size(
    heatmap: Float[Array, "b g g"], placement: Int[Array, "b 6"], stride: int
) -> tuple[Int[Array, " b"], Int[Array, " b"], Bool[Array, " b"]]:
    """Finds the pixel of the original image at the center of the maximum cell.

    Args:
      heatmap: `[B, G, G]`.
      placement: int32 `[B, 6]`.
      stride: input pixels per cell.

    Returns:
      Row and column, int32 `[B]`, and bool `[B]`, which is False if the cell's center is in the
      letterbox border (row and column are then clipped).
    """
    b, g, _ = heatmap.shape
    best = jnp.argmax(heatmap.reshape(b, -1), axis=1)
    source, offset, fitted = placement[:, :2], placement[:, 2:4], placement[:, 4:]
    centre = (jnp.stack([best // g, best % g], axis=1) + 0.5) * stride
    pixel = jnp.floor((centre - offset) * source / fitted).astype(jnp.int32)
    inside = jnp.all((pixel >= 0) & (pixel < source), axis=1)
    row, column = jnp.clip(pixel, 0, source - 1).T
    return row, column, inside
