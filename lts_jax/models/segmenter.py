"""The segmenter predicts the mask from features and a location prior (Section 3.3, Figure 3)."""

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
    """ASPP (DeepLab v3) and a transposed convolution over features with a prior (Eq. 10).

    It is independent of the rest of LTS, so that it can extend other networks (Table 3).

    Attributes:
      features: channels of every branch and of the projection.
      rates: dilation rates of the 3×3 branches.
      dtype: dtype of the computation.
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
          prior: map of the object's location, `[B, H/8, W/8]`, or None (Table 2: no locator).
          known: result of `of_image`.
          train: normalize by batch statistics.
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
        """Also returns the features that predict the mask, `[B, H/8, W/8, features]`."""
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
        # Upsampling copies cells, which does not change the mean.
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
        """Computes the sentence-independent contribution of F_m3's fine half to each branch.

        Requires initialized parameters.

        Args:
          fine: `[B, H/8, W/8, C/2]`.

        Returns:
          `[B, H/8, W/8, features]` by the branch's name, for `known`.
        """
        parts, channels = {}, fine.shape[-1]
        for name, rate in self._branches().items():
            kernel = self.variables["params"][name]["conv"]["kernel"]
            kernel = kernel[..., channels : 2 * channels, :]  # the coarse half's channels are first
            x, kernel = nn.dtypes.promote_dtype(fine, kernel, dtype=self.dtype)
            parts[name] = convolve_part(x, kernel, rate, (fine.shape[1], fine.shape[2]))
        return parts

    def _branches(self) -> dict[str, int]:
        """Names and dilation rates of the branches; 0 is the 1×1 convolution."""
        return {"aspp_1x1": 0} | {f"aspp_rate{rate}": rate for rate in self.rates}


class _Score(nn.Module):
    """`flax.linen.Dense(1)`, computed as a sum over the channels.

    XLA fuses a sum with the computation of its input, which is then never written to memory. A
    matrix product would read it from memory; at H/4 × W/4 it is the segmenter's largest array.
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
    """Returns the logits of normalized features, which the backward pass recomputes."""

    def call(norm: Any, score: Any, x: jax.Array) -> jax.Array:
        logits: jax.Array = score(norm(x, train=train))
        return logits

    logits: jax.Array = (nn.remat(call, policy=is_sum) if train else call)(norm, score, x)
    return logits
