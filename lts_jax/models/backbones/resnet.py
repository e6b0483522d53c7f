"""ResNet with bottleneck blocks (He et al., 2016; stride in the 3×3, as in torchvision)."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.backbones.common import ConvNorm, identity
from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.layers import IMAGENET, Dtype, normalize, rematerialized


class Bottleneck(nn.Module):
    """A residual block: 1×1 reduction to a quarter of the channels, 3×3, 1×1 expansion, ReLU.

    Attributes:
      features: output channels.
      stride: stride of the 3×3 convolution and of the shortcut.
      dilation: dilation of the 3×3 convolution.
      dtype: dtype of the computation.
    """

    features: int
    stride: int = 1
    dilation: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 f"]:
        """Maps `[B, H, W, C]` to `[B, H/stride, W/stride, features]`."""
        conv = partial(ConvNorm, dtype=self.dtype)
        y = conv(self.features // 4, name="reduce")(x, train=train)
        y = conv(self.features // 4, 3, stride=self.stride, dilation=self.dilation, name="spatial")(
            y, train=train
        )
        y = conv(self.features, activation=identity, name="expand")(y, train=train)
        if x.shape != y.shape:
            shortcut = conv(self.features, stride=self.stride, activation=identity, name="shortcut")
            x = shortcut(x, train=train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet without its classifier.

    Attributes:
      width: channels of the first convolution; stage i has `4 * width * 2**i`.
      stage_sizes: blocks in each of the four stages.
      dilated: the last two stages keep stride 8 and use dilations 2 and 4, so that all levels have
        stride 8. As in DeepLab, the first block of a stage keeps the dilation of the previous
        stage.
      dtype: dtype of the computation.
      remat: in training, store only each block's input for the backward pass.
    """

    width: int = 64
    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    dilated: bool = False
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> ImageFeatures:
        """Encodes `[B, H, W, 3]` RGB in [0, 1]; H and W must be multiples of 32."""
        run = rematerialized(self.remat and train)
        x = normalize(image, *IMAGENET)
        stem = ConvNorm(self.width, 7, stride=2, dtype=self.dtype, name="stem")
        x = run(stem, x, train=train)
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        taps, dilation = [], 1
        for i, blocks in enumerate(self.stage_sizes):
            keeps = self.dilated and i > 1
            for j in range(blocks):
                stride = 2 if i and not j and not keeps else 1
                block = Bottleneck(
                    4 * self.width * 2**i,
                    stride,
                    dilation,
                    dtype=self.dtype,
                    name=f"stage{i}_block{j}",
                )
                x = run(block, x, train=train)
                dilation = 2 ** (i - 1) if keeps else 1
            taps.append(x)
        return ImageFeatures(*taps[1:])
