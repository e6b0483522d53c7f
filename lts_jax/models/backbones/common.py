"""What the backbones share: the input, a convolution with BatchNorm, patches, stochastic depth."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.convolution import convolve
from lts_jax.models.layers import EPSILON, Dtype, norm_act

Activation = Callable[[jax.Array], jax.Array]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's pixels: R, G, B in [0, 1]."""


def normalize(
    image: Float[Array, "b h w 3"], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, "b h w 3"]:
    """Subtracts the mean of RGB in [0, 1] and divides by the standard deviation.

    Raises:
      ValueError: the image is not `[B, H, W, 3]`, H and W multiples of 32.
    """
    _, h, w, c = image.shape
    if c != 3 or h % 32 or w % 32:
        raise ValueError(f"images must be [B, H, W, 3], H and W multiples of 32: {image.shape}")
    return (image - jnp.array(mean, image.dtype)) / jnp.array(std, image.dtype)


def identity(x: jax.Array) -> jax.Array:
    """No activation."""
    return x


class ConvNorm(nn.Module):
    """Convolution without bias → BatchNorm → activation.

    Attributes:
      features: output channels.
      kernel: side of the square kernel, odd.
      stride: 1 or 2.
      dilation: rate of an atrous kernel.
      activation: after BatchNorm.
      epsilon: that BatchNorm adds to a variance.
      same: pad as TensorFlow does, which differs from PyTorch for a stride of 2.
      dtype: of the computation.
    """

    features: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    activation: Activation = nn.relu
    epsilon: float = EPSILON
    same: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 f"]:
        """Maps `[B, H, W, C]` to `[B, H/stride, W/stride, features]`."""
        if self.kernel == 1:
            x = x[:, :: self.stride, :: self.stride]
            x = nn.Dense(self.features, use_bias=False, dtype=self.dtype, name="conv")(x)
        else:
            pad = self.dilation * (self.kernel // 2)
            x = nn.Conv(
                self.features,
                (self.kernel, self.kernel),
                strides=self.stride,
                padding="SAME" if self.same else ((pad, pad), (pad, pad)),
                kernel_dilation=self.dilation,
                use_bias=False,
                dtype=self.dtype,
                conv_general_dilated=None if self.same else convolve,
                name="conv",
            )(x)
        return norm_act(
            x, train=train, dtype=self.dtype, epsilon=self.epsilon, activation=self.activation
        )


class PatchConv(nn.Module):
    """A convolution of square patches that do not overlap, as a matrix product.

    Attributes:
      features: output channels.
      size: side of a patch, and the stride.
      dtype: of the computation.
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
    """Stochastic depth (Huang et al., 2016): in training, drops a residual for some images.

    Called in a module's compact method; it draws from the random numbers named `dropout`.
    """
    axes = tuple(range(1, x.ndim))
    dropped: jax.Array = nn.Dropout(rate, broadcast_dims=axes, deterministic=not train)(x)
    return dropped


def drop_rates(rate: float, stages: Sequence[int]) -> list[list[float]]:
    """Rates of `drop_path` by stage and block, which increase from 0 to `rate`."""
    rates = iter(np.linspace(0, rate, max(sum(stages), 1)).tolist())
    return [[next(rates) for _ in range(blocks)] for blocks in stages]
