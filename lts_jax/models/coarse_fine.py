"""F_m3 without its copies, and convolutions over it that compute nothing twice.

One half of F_m3's channels are a map of half the size, doubled by nearest neighbour (Eq. 6), and no
sentence changes the other half (Eq. 7). A convolution is the sum of what it makes of each part of
its channels. Of the coarse half that is the same at half the size with half the dilation, doubled
afterwards, where the dilation is even: a quarter of the work. Of the fine half it is the same for
all sentences about an image.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.convolution import convolve, convolve_map, multiply_map
from lts_jax.models.layers import Dtype, for_sentences, norm_act, upsample_nearest


class CoarseFine(NamedTuple):
    """F_m3: coarse `[B, H/16, W/16, C/2]` and fine `[B, H/8, W/8, C/2]`, or of its K images.

    With a dilated backbone the coarse half is `[B, H/8, W/8, C/2]` too.
    """

    coarse: Float[Array, "b h16 w16 c"]
    fine: Float[Array, "k h8 w8 c"]

    def whole(self) -> Float[Array, "b h8 w8 2*c"]:
        """Returns F_m3 as Eq. 7 has it, `[B, H/8, W/8, C]`."""
        fine = for_sentences(self.fine, self.coarse.shape[0])
        # A dilated backbone's features are all of one size.
        same = self.coarse.shape[1:3] == fine.shape[1:3]
        coarse = self.coarse if same else upsample_nearest(self.coarse)
        return jnp.concatenate([coarse, fine], axis=-1)


def convolve_part(
    x: jax.Array, kernel: jax.Array, dilation: int, size: tuple[int, int]
) -> jax.Array:
    """What a convolution of stride 1 makes of some of its channels.

    Args:
      x: `[B, H, W, C]`; of half the size it stands for its doubling, and a single cell for a map
        of nothing else.
      kernel: those channels' part of it, `[C, F]` or `[k, k, C, F]`.
      dilation: of the whole map.
      size: H and W.

    Returns:
      `[B, H, W, F]`; of a single cell `[B, 1, 1, F]`.
    """
    doubled = 2 * x.shape[1] == size[0] > 2
    if doubled and kernel.ndim > 2 and dilation % 2:
        x, doubled = upsample_nearest(x), False
    if kernel.ndim == 2:
        y = multiply_map(x, kernel) if x.shape[-1] == 1 else x @ kernel
    elif x.shape[-1] == 1:
        y = convolve_map(x, kernel, dilation)
    else:
        dilation //= 1 + doubled
        pad = dilation * (kernel.shape[0] // 2)
        y = convolve(x, kernel, (1, 1), ((pad, pad),) * 2, rhs_dilation=(dilation,) * 2)
    return upsample_nearest(y) if doubled else y


class ConvNormActOfParts(nn.Module):
    """`ConvNormAct`, with the same parameters, of channels that come in parts.

    Attributes:
      features: output channels.
      kernel: side of the square kernel, odd.
      dilation: rate of an atrous kernel.
      dtype: of the computation.
    """

    features: int
    kernel: int = 1
    dilation: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, parts: Sequence[jax.Array], known: jax.Array | None = None, *, train: bool
    ) -> jax.Array:
        """Maps parts, as `convolve_part` takes them, to `[B, H, W, features]`.

        Args:
          parts: in the order of the channels; one of them has the whole size. What is of K images
            is convolved K times, and repeated for the B / K sentences about each.
          known: what `convolve_part` made of the second part already.
          train: use the batch's own BatchNorm statistics.
        """
        side = () if self.kernel == 1 else (self.kernel,) * 2
        shape = (*side, sum(x.shape[-1] for x in parts), self.features)
        whole, *parts = nn.dtypes.promote_dtype(
            _Kernel(shape, name="conv")(), *parts, dtype=self.dtype
        )
        sentences, height, width = (max(x.shape[axis] for x in parts) for axis in range(3))
        ends = list(itertools.accumulate(x.shape[-1] for x in parts))
        total = jnp.zeros((), whole.dtype)
        # The largest one last: the rest is then what cuDNN adds to it.
        for i in sorted(range(len(parts)), key=lambda i: parts[i].size):
            x = parts[i]
            if i == 1 and known is not None:
                y = known
            else:
                kernel = whole[..., ends[i] - x.shape[-1] : ends[i], :]
                y = convolve_part(x, kernel, self.dilation, (height, width))
            total += for_sentences(y, sentences)
        return norm_act(total, train=train, dtype=self.dtype)


class _Kernel(nn.Module):
    """A convolution's parameter, where `flax.linen.Conv` would have it."""

    shape: Sequence[int]

    @nn.compact
    def __call__(self) -> jax.Array:
        kernel: jax.Array = self.param("kernel", nn.linear.default_kernel_init, tuple(self.shape))
        return kernel
