"""The segmenter: from features and a position prior to the mask (Section 3.3, Figure 3)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from lts_jax.models.layers import (
    ConvNormAct,
    ConvTranspose2x,
    Dtype,
    batch_norm,
    leaky_relu,
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

    @nn.compact
    def __call__(self, fused: jax.Array, prior: jax.Array | None, *, train: bool) -> jax.Array:
        """Returns the logits of P_mask, `[B, H/4, W/4]`.

        Args:
          fused: features of any network, `[B, H/8, W/8, C]`.
          prior: a map of where the object is, `[B, H/8, W/8]`, or None (Table 2: no locator).
          train: use the batch's own BatchNorm statistics.
        """
        x = fused
        if prior is not None:
            x = jnp.concatenate([x, prior[..., None].astype(x.dtype)], axis=-1)
        branches = [ConvNormAct(self.features, dtype=self.dtype, name="aspp_1x1")(x, train=train)]
        for rate in self.rates:
            branch = ConvNormAct(
                self.features, 3, dilation=rate, dtype=self.dtype, name=f"aspp_rate{rate}"
            )
            branches.append(branch(x, train=train))
        pooled = ConvNormAct(self.features, dtype=self.dtype, name="aspp_pool")(
            x.mean(axis=(1, 2), keepdims=True), train=train
        )
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        x = ConvNormAct(self.features, dtype=self.dtype, name="project")(
            jnp.concatenate(branches, axis=-1), train=train
        )
        x = ConvTranspose2x(self.features, dtype=self.dtype, name="upsample")(x)
        norm = batch_norm(use_running_average=not train, dtype=self.dtype, name="upsample_norm")
        x = leaky_relu(norm(x))
        return nn.Dense(1, dtype=self.dtype, name="mask")(x)[..., 0]
