"""The locator: where in the image is the referred object? (Section 3.2)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from lts_jax.models.layers import Dtype


class FilterLocator(nn.Module):
    """Relevance filtering: the sentence makes one 1×1 kernel over F_m3 (Eq. 8)."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, fused: jax.Array, sentence: jax.Array) -> jax.Array:
        """Returns the logits of H_mask, `[B, rounds = 1, H/8, W/8]`.

        Args:
          fused: F_m3, `[B, H/8, W/8, d_k]`.
          sentence: f_text, `[B, D]`.
        """
        kernel = nn.Dense(fused.shape[-1], use_bias=False, dtype=self.dtype, name="kernel")(
            sentence
        )
        return jnp.einsum("bhwc,bc->bhw", fused, kernel)[:, None]
