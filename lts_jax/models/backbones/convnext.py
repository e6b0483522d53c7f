"""ConvNeXt (Liu et al., "A ConvNet for the 2020s", CVPR 2022)."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.backbones.common import PatchConv, drop_path, drop_rates
from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.depthwise import DepthwiseConv
from lts_jax.models.layers import IMAGENET, Dtype, normalize, rematerialized

EPSILON = 1e-6
_layer_norm = partial(nn.LayerNorm, epsilon=EPSILON)


class Block(nn.Module):
    """A residual block: depthwise 7×7, LayerNorm, 4× expansion, GELU, reduction and layer scale.

    Attributes:
      drop_path: stochastic depth rate.
      dtype: dtype of the computation.
    """

    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """Maps `[B, H, W, C]` to the same shape."""
        c = x.shape[-1]
        y = DepthwiseConv(7, dtype=self.dtype, name="depthwise")(x)
        y = _layer_norm(dtype=self.dtype, name="norm")(y)
        y = nn.Dense(4 * c, dtype=self.dtype, name="expand")(y)
        y = nn.gelu(y, approximate=False)
        y = nn.Dense(c, dtype=self.dtype, name="reduce")(y)
        scale = self.param("scale", nn.initializers.constant(1e-6), (c,))
        return x + drop_path(y * scale.astype(y.dtype), self.drop_path, train=train)


class ConvNeXt(nn.Module):
    """ConvNeXt without its classifier, with a LayerNorm on each output, as in dense prediction.

    Attributes:
      width: channels of the first stage; each further stage has twice as many.
      stage_sizes: blocks in each of the four stages.
      drop_path: stochastic depth rate of the last block.
      dtype: dtype of the computation.
      remat: in training, store only each block's input for the backward pass.
    """

    width: int = 96
    stage_sizes: Sequence[int] = (3, 3, 9, 3)
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> ImageFeatures:
        """Encodes `[B, H, W, 3]` RGB in [0, 1]; H and W must be multiples of 32."""
        run = rematerialized(self.remat and train)
        norm = partial(_layer_norm, dtype=self.dtype)
        x = PatchConv(self.width, 4, dtype=self.dtype, name="stem")(normalize(image, *IMAGENET))
        x = norm(name="stem_norm")(x)
        taps = []
        for i, rates in enumerate(drop_rates(self.drop_path, self.stage_sizes)):
            if i:
                x = norm(name=f"stage{i}_down_norm")(x)
                down = PatchConv(self.width * 2**i, 2, dtype=self.dtype, name=f"stage{i}_down")
                x = down(x)
            for j, rate in enumerate(rates):
                x = run(Block(rate, self.dtype, name=f"stage{i}_block{j}"), x, train=train)
            if i:
                taps.append(norm(name=f"tap{4 * 2**i}_norm")(x))
        return ImageFeatures(*taps)
