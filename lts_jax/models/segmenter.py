"""The segmenter: from features and a position prior to the mask (Section 3.3, Figure 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.coarse_fine import CoarseFine, ConvNormActOfParts, convolve_part
from lts_jax.models.layers import (
    ConvNormAct,
    ConvTranspose2x,
    Dtype,
    batch_norm_act,
    for_sentences,
    is_sum,
)


class Segmenter(nn.Module):
    """ASPP (DeepLab v3) and a transposed convolution over any features with a prior (Eq. 10).

    It stands on its own, so that it can be put on another network (Table 3).

    Attributes:
      features: channels of every branch and of the projection.
      rates: dilations of the 3×3 branches.
      dtype: of the computation.
    """

    features: int = 256
    rates: Sequence[int] = (6, 12, 18)
    dtype: Dtype = jnp.float32

    def __call__(
        self,
        fused: Float[Array, "b h w c"] | CoarseFine,
        prior: Float[Array, "b h w"] | None,
        known: Mapping[str, jax.Array] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "b 2*h 2*w"]:
        """Returns the logits of P_mask, `[B, H/4, W/4]`.

        Args:
          fused: features of any network, `[B, H/8, W/8, C]`, or F_m3.
          prior: a map of where the object is, `[B, H/8, W/8]`, or None (Table 2: no locator).
          known: what `of_image` returned.
          train: use the batch's own BatchNorm statistics.
        """
        return self.mask_and_features(fused, prior, known, train=train)[0]

    @nn.compact
    def mask_and_features(
        self,
        fused: Float[Array, "b h w c"] | CoarseFine,
        prior: Float[Array, "b h w"] | None,
        known: Mapping[str, jax.Array] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "b 2*h 2*w"], Float[Array, "b h w f"]]:
        """Also returns the features that the mask is made of, `[B, H/8, W/8, features]`."""
        known = known or {}
        parts = list(fused) if isinstance(fused, CoarseFine) else [fused]
        if prior is not None:
            parts.append(prior[..., None].astype(parts[-1].dtype))
        branches = []
        for name, rate in self._branches().items():
            kernel = 3 if rate else 1
            branch = ConvNormActOfParts(
                self.features, kernel, dilation=rate, dtype=self.dtype, name=name
            )
            branches.append(branch(parts, known.get(name), train=train))
        # The mean of copies is the mean.
        sentences = max(x.shape[0] for x in parts)
        means = [for_sentences(x.mean(axis=(1, 2), keepdims=True), sentences) for x in parts]
        pooled = ConvNormAct(self.features, dtype=self.dtype, name="aspp_pool")(
            jnp.concatenate(means, axis=-1), train=train
        )
        x = ConvNormActOfParts(self.features, dtype=self.dtype, name="project")(
            [jnp.concatenate(branches, axis=-1), pooled], train=train
        )
        features = x
        x = ConvTranspose2x(self.features, dtype=self.dtype, name="upsample")(x)
        norm = batch_norm_act(dtype=self.dtype, name="upsample_norm")
        return _mask(norm, _Score(dtype=self.dtype, name="mask"), x, train=train), features

    def of_image(self, fine: Float[Array, "b h w c"]) -> dict[str, Float[Array, "b h w f"]]:
        """What the fine half of F_m3 adds to each branch, for `known`; no sentence changes it.

        With the parameters of a network that has some.

        Args:
          fine: `[B, H/8, W/8, C/2]`.

        Returns:
          `[B, H/8, W/8, features]` by the branch's name.
        """
        found, channels = {}, fine.shape[-1]
        for name, rate in self._branches().items():
            kernel = self.variables["params"][name]["conv"]["kernel"]
            kernel = kernel[..., channels : 2 * channels, :]  # behind as many of the coarse half
            x, kernel = nn.dtypes.promote_dtype(fine, kernel, dtype=self.dtype)
            found[name] = convolve_part(x, kernel, rate, (fine.shape[1], fine.shape[2]))
        return found

    def _branches(self) -> dict[str, int]:
        """Their names and dilations; 0 is the 1×1 convolution's."""
        return {"aspp_1x1": 0} | {f"aspp_rate{rate}": rate for rate in self.rates}


class _Score(nn.Module):
    """`flax.linen.Dense(1)`, as a sum over the channels.

    XLA computes a sum together with what it is of, and so never writes that; a product of matrices
    reads it from memory. At H/4 × W/4 that is the largest array of the segmenter.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.linear.default_kernel_init, (x.shape[-1], 1))
        bias = self.param("bias", nn.initializers.zeros, (1,))
        kernel, bias = nn.dtypes.promote_dtype(kernel, bias, dtype=self.dtype)
        total = (x.astype(jnp.float32) * kernel[:, 0].astype(jnp.float32)).sum(-1)
        logits: jax.Array = total.astype(self.dtype) + bias
        return logits


def _mask(norm: nn.Module, score: nn.Module, x: jax.Array, *, train: bool) -> jax.Array:
    """The logits of normalized features, which the backward pass computes again."""

    def call(norm: Any, score: Any, x: jax.Array) -> jax.Array:
        logits: jax.Array = score(norm(x, train=train))
        return logits

    logits: jax.Array = (nn.remat(call, policy=is_sum) if train else call)(norm, score, x)
    return logits
