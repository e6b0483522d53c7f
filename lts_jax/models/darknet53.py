"""Darknet53, the backbone of YOLOv3 (Redmon and Farhadi, 2018, Table 1)."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.layers import (
    EPSILON,
    IMAGENET,
    NEGATIVE_SLOPE,
    ConvNormAct,
    Dtype,
    normalize,
    rematerialized,
)


class Conventions(NamedTuple):
    """Differences between implementations of Darknet53; must match the pretrained weights.

    Attributes:
      negative_slope: slope of LeakyReLU for negative inputs.
      epsilon: added to the variance by BatchNorm.
      mean: mean of the image channels R, G, B in [0, 1], which is subtracted.
      std: standard deviation, by which the channels are then divided.
    """

    negative_slope: float = NEGATIVE_SLOPE
    epsilon: float = EPSILON
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


CONVENTIONS = {
    "darknet": Conventions(),
    "ultralytics_2020": Conventions(epsilon=1e-4),
    "timm": Conventions(0.01, mean=IMAGENET[0], std=IMAGENET[1]),
}
"""By `model.backbone_conventions`. Darknet's epsilon is that of its GPU code."""


class ImageFeatures(NamedTuple):
    """Features at three levels: `[B, H/s, W/s, C]` at strides s = 8, 16, 32 (F_v3, F_v2, F_v1)."""

    stride8: Float[Array, "b h8 w8 c8"]
    stride16: Float[Array, "b h16 w16 c16"]
    stride32: Float[Array, "b h32 w32 c32"]


class Residual(nn.Module):
    """A residual block: 1×1 convolution to half the channels, then 3×3 back to all channels."""

    dtype: Dtype = jnp.float32
    negative_slope: float = NEGATIVE_SLOPE
    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """Maps `[B, H, W, C]` to the same shape."""
        c = x.shape[-1]
        conv = partial(
            ConvNormAct,
            dtype=self.dtype,
            negative_slope=self.negative_slope,
            epsilon=self.epsilon,
        )
        y = conv(c // 2, 1)(x, train=train)
        return x + conv(c, 3)(y, train=train)


class Darknet53(nn.Module):
    """Darknet53 without its classifier: 52 convolutions at the default sizes.

    Attributes:
      width: channels of the first convolution; stage i has `width * 2**i`.
      stage_sizes: residual blocks in each of the five stages.
      neck: append the first six convolutions of YOLOv3's neck (1×1, 3×3, three times) to the
        stride-32 features, as MCN (Luo et al., CVPR 2020) does.
      dtype: dtype of the computation.
      remat: in training, store only each block's input for the backward pass.
      conventions: conventions of the weights.
    """

    width: int = 32
    stage_sizes: Sequence[int] = (1, 2, 8, 8, 4)
    neck: bool = True
    dtype: Dtype = jnp.float32
    remat: bool = False
    conventions: Conventions = CONVENTIONS["darknet"]

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> ImageFeatures:
        """Encodes `[B, H, W, 3]` RGB in [0, 1]; H and W must be multiples of 32."""
        run = rematerialized(self.remat and train)
        slope, epsilon, mean, std = self.conventions
        conv = partial(ConvNormAct, dtype=self.dtype, negative_slope=slope, epsilon=epsilon)
        residual = partial(Residual, dtype=self.dtype, negative_slope=slope, epsilon=epsilon)
        image = normalize(image, mean, std)
        x = run(conv(self.width, 3, name="stem"), image, train=train)
        taps = []
        for i, blocks in enumerate(self.stage_sizes, start=1):
            features = self.width * 2**i
            down = conv(features, 3, stride=2, name=f"stage{i}_down")
            x = run(down, x, train=train)
            for j in range(blocks):
                x = run(residual(name=f"stage{i}_block{j}"), x, train=train)
            taps.append(x)
        if self.neck:
            for j in range(3):
                half = conv(x.shape[-1] // 2, 1, name=f"neck{j}_reduce")
                full = conv(x.shape[-1], 3, name=f"neck{j}_expand")
                x = run(full, run(half, x, train=train), train=train)
        return ImageFeatures(stride8=taps[2], stride16=taps[3], stride32=x)
