"""Layers shared by CMPC's blocks: unit vectors, map norms, coordinates and linear maps."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.layers import Dtype

XAVIER = nn.initializers.xavier_uniform()

Linear = partial(nn.Dense, kernel_init=XAVIER)
"""A linear layer with bias; on maps, a 1×1 convolution."""

MapNorm = partial(nn.LayerNorm, epsilon=1e-12, feature_axes=-1, use_fast_variance=False)
"""LayerNorm over `reduction_axes`, such as all cells and channels; scale and bias per channel."""


def unit(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Divides by the L2 norm of the last axis; a zero vector stays zero."""
    wide = x.astype(jnp.float32)
    squares = jnp.square(wide).sum(-1, keepdims=True)
    return (wide * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))).astype(x.dtype)


def spatial_coordinates(height: int, width: int) -> Float[Array, "h w 8"]:
    """Returns the coordinates of each cell of a map, from -1 to 1 between the borders.

    Left, top, right and bottom of the cell, x and y of its center, and 1 / W and 1 / H.
    """
    left, top = (jnp.arange(n) * 2 / n - 1 for n in (width, height))
    x, y = jnp.meshgrid(left, top)
    w, h = 2 / width, 2 / height
    sizes = jnp.full_like(x, 1 / width), jnp.full_like(x, 1 / height)
    return jnp.stack([x, y, x + w, y + h, x + w / 2, y + h / 2, *sizes], axis=-1)


class Heads(nn.Module):
    """Several linear layers with the same input, each followed by tanh.

    Attributes:
      heads: number of layers.
      features: output channels of each layer.
      dtype: dtype of the computation.
    """

    heads: int
    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b r f"]:
        """Maps `[…, C]` to `[…, heads, features]`."""
        shape = (x.shape[-1], self.heads, self.features)
        init = nn.initializers.variance_scaling(
            1.0, "fan_avg", "uniform", in_axis=0, out_axis=2, batch_axis=(1,)
        )
        kernel = self.param("kernel", init, shape)
        bias = self.param("bias", nn.initializers.zeros, shape[1:])
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        flat = x @ kernel.reshape(shape[0], -1)
        return jnp.tanh(flat.reshape(*x.shape[:-1], *shape[1:]) + bias)


class LinearOfParts(nn.Module):
    """`Linear` whose input channels are given as parts, some of which are the same for all cells.

    Attributes:
      features: output channels.
      dtype: dtype of the computation.
    """

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, parts: Sequence[Float[Array, "..."]]) -> Float[Array, "..."]:
        """Maps parts `[…, C_i]` whose other axes broadcast to `[…, features]`."""
        channels = [x.shape[-1] for x in parts]
        kernel = self.param("kernel", XAVIER, (sum(channels), self.features))
        y = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        for i, x in enumerate(parts):
            first = sum(channels[:i])
            of_part = kernel[first : first + channels[i]]
            y = y + jnp.matmul(*nn.dtypes.promote_dtype(x, of_part, dtype=self.dtype))
        return y
