"""A factored form of F_m3, and convolutions over it without redundant computation.

Half of F_m3's channels are a half-resolution map, upsampled by nearest neighbor (Eq. 6); the other
half does not depend on the sentence (Eq. 7). A convolution is the sum of its results for the two
halves. For the coarse half and an even dilation, convolving at half resolution with half the
dilation and upsampling afterwards gives the same result for a quarter of the work. For the fine
half, one result serves all sentences about an image.
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
    """F_m3 as coarse `[B, H/16, W/16, C/2]` and fine `[B, H/8, W/8, C/2]` or `[K, …]` of K images.

    With a dilated backbone, the coarse half is `[B, H/8, W/8, C/2]`.
    """

    coarse: Float[Array, "b h16 w16 c"]
    fine: Float[Array, "k h8 w8 c"]

    def merge(self) -> Float[Array, "b h8 w8 2*c"]:
        """Returns F_m3 in the form of Eq. 7, `[B, H/8, W/8, C]`."""
        fine = for_sentences(self.fine, self.coarse.shape[0])
        # All features of a dilated backbone have the same size.
        same = self.coarse.shape[1:3] == fine.shape[1:3]
        coarse = self.coarse if same else upsample_nearest(self.coarse)
        return jnp.concatenate([coarse, fine], axis=-1)


def convolve_part(
    x: jax.Array, kernel: jax.Array, dilation: int, size: tuple[int, int]
) -> jax.Array:
    """Convolves some of a map's channels at stride 1.

    Args:
      x: `[B, H, W, C]`. A map of half this size represents its upsampled version, and a single cell
        represents a constant map.
      kernel: the kernel's weights for these channels, `[C, F]` or `[k, k, C, F]`.
      dilation: dilation at full resolution.
      size: H and W.

    Returns:
      `[B, H, W, F]`, or `[B, 1, 1, F]` for a single cell.
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
    """`ConvNormAct`, with the same parameters, whose input channels are given as parts.

    Attributes:
      features: output channels.
      kernel: side of the square kernel, odd.
      dilation: dilation rate.
      dtype: dtype of the computation.
    """

    features: int
    kernel: int = 1
    dilation: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, parts: Sequence[jax.Array], known: jax.Array | None = None, *, train: bool
    ) -> jax.Array:
        """Maps parts, as for `convolve_part`, to `[B, H, W, features]`.

        Args:
          parts: maps in channel order; at least one has the full size. Maps of K images are
            convolved once per image, and the result is repeated for the B / K sentences of each.
          known: the result of `convolve_part` for the second part, if already computed.
          train: normalize by batch statistics.
        """
        side = () if self.kernel == 1 else (self.kernel,) * 2
        shape = (*side, sum(x.shape[-1] for x in parts), self.features)
        full_kernel, *parts = nn.dtypes.promote_dtype(
            _Kernel(shape, name="conv")(), *parts, dtype=self.dtype
        )
        sentences, height, width = (max(x.shape[axis] for x in parts) for axis in range(3))
        ends = list(itertools.accumulate(x.shape[-1] for x in parts))
        total = jnp.zeros((), full_kernel.dtype)
        # Add the largest part last, so that cuDNN can fuse the addition of the others.
        for i in sorted(range(len(parts)), key=lambda i: parts[i].size):
            x = parts[i]
            if i == 1 and known is not None:
                y = known
            else:
                kernel = full_kernel[..., ends[i] - x.shape[-1] : ends[i], :]
                y = convolve_part(x, kernel, self.dilation, (height, width))
            total += for_sentences(y, sentences)
        return norm_act(total, train=train, dtype=self.dtype)


class _Kernel(nn.Module):
    """The kernel of a convolution, at the position of `flax.linen.Conv` in the parameter tree."""

    shape: Sequence[int]

    @nn.compact
    def __call__(self) -> jax.Array:
        kernel: jax.Array = self.param("kernel", nn.linear.default_kernel_init, tuple(self.shape))
        return kernel
