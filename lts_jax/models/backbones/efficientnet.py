"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.backbones.common import (
    ConvNorm,
    drop_path,
    drop_rates,
    identity,
)
from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.depthwise import DepthwiseConv
from lts_jax.models.layers import Dtype, norm_act, normalize, rematerialized

EPSILON = 1e-3
INPUT = ((127 / 255,) * 3, (128 / 255,) * 3)
"""Mean and divisor of RGB in [0, 1]; TensorFlow's networks use (x - 127) / 128 for 0 to 255."""
_STEM = 32
# By stage: channels at the published width, kernel, stride, expansion factor.
STAGES = (
    (16, 3, 1, 1),
    (24, 3, 2, 6),
    (40, 5, 2, 6),
    (80, 3, 2, 6),
    (112, 5, 1, 6),
    (192, 5, 2, 6),
    (320, 3, 1, 6),
)


class Block(nn.Module):
    """1×1 expansion, depthwise convolution, 1×1 projection; residual if the shapes are equal.

    Attributes:
      features: output channels.
      kernel: kernel size of the depthwise convolution.
      stride: stride of the depthwise convolution.
      expansion: expansion factor of the hidden channels.
      drop_path: stochastic depth rate.
      dtype: dtype of the computation.
    """

    features: int
    kernel: int
    stride: int = 1
    expansion: int = 6
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 f"]:
        """Maps `[B, H, W, C]` to `[B, H/stride, W/stride, features]`."""
        conv = partial(ConvNorm, epsilon=EPSILON, dtype=self.dtype)
        y = x
        if self.expansion > 1:
            expand = conv(x.shape[-1] * self.expansion, activation=nn.relu6, name="expand")
            y = expand(y, train=train)
        y = DepthwiseConv(
            self.kernel, self.stride, use_bias=False, dtype=self.dtype, name="depthwise"
        )(y)
        y = norm_act(
            y,
            train=train,
            dtype=self.dtype,
            name="depthwise_norm",
            epsilon=EPSILON,
            activation=nn.relu6,
        )
        y = conv(self.features, activation=identity, name="project")(y, train=train)
        if x.shape != y.shape:
            return y
        return x + drop_path(y, self.drop_path, train=train)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to the last block, without its head and classifier.

    Attributes:
      width: channels of the first convolution; the stages are scaled accordingly.
      stage_sizes: blocks in each of the seven stages.
      drop_path: stochastic depth rate of the last block.
      dtype: dtype of the computation.
      remat: in training, store only each block's input for the backward pass.
    """

    width: int = _STEM
    stage_sizes: Sequence[int] = (1, 2, 2, 3, 3, 4, 1)
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> ImageFeatures:
        """Encodes `[B, H, W, 3]` RGB in [0, 1]; H and W must be multiples of 32."""
        run = rematerialized(self.remat and train)
        x = normalize(image, *INPUT)
        stem = ConvNorm(
            self.width,
            3,
            stride=2,
            activation=nn.relu6,
            epsilon=EPSILON,
            same=True,
            dtype=self.dtype,
            name="stem",
        )
        x = run(stem, x, train=train)
        ends = []
        rates = drop_rates(self.drop_path, self.stage_sizes)
        for i, (features, kernel, stride, expansion) in enumerate(STAGES):
            for j, rate in enumerate(rates[i]):
                block = Block(
                    max(4, round(features * self.width / _STEM)),
                    kernel,
                    1 if j else stride,
                    expansion,
                    rate,
                    self.dtype,
                    name=f"stage{i}_block{j}",
                )
                x = run(block, x, train=train)
            ends.append(x)
        return ImageFeatures(ends[2], ends[4], ends[6])
