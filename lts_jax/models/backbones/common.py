"""Layers shared by the backbones: convolution with BatchNorm, patches, stochastic depth."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.layers import ConvNormAct, Dtype


def identity(x: jax.Array) -> jax.Array:
    """Returns x, for layers without activation."""
    return x


ConvNorm = partial(ConvNormAct, activation=nn.relu)
"""Convolution without bias → BatchNorm → ReLU, or another activation."""


class PatchConv(nn.Module):
    """A convolution of non-overlapping square patches, computed as a matrix product.

    Attributes:
      features: output channels.
      size: side of a patch, and the stride.
      dtype: dtype of the computation.
    """

    features: int
    size: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        """Maps `[B, H, W, C]` to `[B, H/size, W/size, features]`."""
        b, h, w, c = x.shape
        n = self.size
        x = x.reshape(b, h // n, n, w // n, n, c).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(b, h // n, w // n, n * n * c)
        return nn.Dense(self.features, dtype=self.dtype, name="conv")(x)


def drop_path(x: Float[Array, "b ..."], rate: float, *, train: bool) -> Float[Array, "b ..."]:
    """Stochastic depth (Huang et al., 2016): in training, drops the residual for random images.

    Must be called in a module's compact method; uses the random stream `dropout`.
    """
    axes = tuple(range(1, x.ndim))
    dropped: jax.Array = nn.Dropout(rate, broadcast_dims=axes, deterministic=not train)(x)
    return dropped


def drop_rates(rate: float, stages: Sequence[int]) -> list[list[float]]:
    """Returns the rates of `drop_path` by stage and block, which increase from 0 to `rate`."""
    rates = iter(np.linspace(0, rate, max(sum(stages), 1)).tolist())
    return [[next(rates) for _ in range(blocks)] for blocks in stages]
