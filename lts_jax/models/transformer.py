"""The transformer decoder layer, an alternative to the filter (Section 3.2, Eq. 9)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.layers import Dtype


class DecoderLayer(nn.Module):
    """One decoder layer of the original transformer: post-norm, ReLU, no dropout.

    Equals `torch.nn.TransformerDecoderLayer` if the position encodings are zero. They are added to
    the queries and keys of each attention, but not to the values, as in DETR (Carion et al., ECCV
    2020). The weights of both attentions are sown as `attention_weights`, `[B, heads, N, M]`.

    Attributes:
      heads: number of attention heads.
      dtype: dtype of the computation.
    """

    heads: int = 4
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        position: Float[Array, "n c"],
        memory: Float[Array, "b m d"],
    ) -> Float[Array, "b n c"]:
        """Maps queries `[B, N, C]` to `[B, N, C]`.

        Args:
          x: `[B, N, C]`; the feed-forward layer also has C hidden units.
          position: position encodings, `[N, C]`.
          memory: encoder output, `[B, M, D]`.
        """
        c = x.shape[-1]

        def norm(name: str, x: jax.Array) -> jax.Array:
            y: jax.Array = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)(x)
            return y

        def attend(name: str, x: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
            attention = nn.MultiHeadAttention(
                self.heads,
                qkv_features=c,
                out_features=c,
                dtype=self.dtype,
                attention_fn=_attend,
                name=name,
            )
            y: jax.Array = attention(x + position, keys, values, sow_weights=True)
            return y

        position = position.astype(x.dtype)
        x = norm("norm1", x + attend("self_attention", x, x + position, x))
        x = norm("norm2", x + attend("cross_attention", x, memory, memory))
        hidden = nn.relu(nn.Dense(c, dtype=self.dtype, name="linear1")(x))
        return norm("norm3", x + nn.Dense(c, dtype=self.dtype, name="linear2")(hidden))


def _attend(
    query: jax.Array, key: jax.Array, value: jax.Array, *, module: nn.Module | None, **_: Any
) -> jax.Array:
    """Scaled dot-product attention of `[B, N, heads, F]` to `[B, M, heads, F]`.

    The softmax is computed in float32. Unlike in Flax's own function, its result is not stored in
    float32, as it is by far the network's largest array.
    """
    scores = jnp.einsum("bnhf,bmhf->bhnm", query * query.shape[-1] ** -0.5, key)
    weights = nn.softmax(scores.astype(jnp.float32)).astype(value.dtype)
    if module is not None:
        module.sow("intermediates", "attention_weights", weights)
    return jnp.einsum("bhnm,bmhf->bnhf", weights, value)


def sine_position_encoding(height: int, width: int, features: int) -> np.ndarray:
    """Returns fixed position encodings of a grid's cells in row-major order, as in DETR.

    Half of the features encode the row, half the column, each counted from 1 and scaled to 2π at
    the far end. Even features are sines and odd ones cosines of the same frequencies.

    Returns:
      float32 `[height * width, features]`; `features` must be a multiple of 4.
    """
    if features % 4:
        raise ValueError(f"position encodings need a multiple of 4 features, but got {features}")
    half = features // 2
    frequency = 10000.0 ** (-2 * (np.arange(half) // 2) / half)

    def encode(n: int) -> np.ndarray:
        angle = (np.arange(1, n + 1) / (n + 1e-6) * 2 * np.pi)[:, None] * frequency
        return np.where(np.arange(half) % 2 == 0, np.sin(angle), np.cos(angle))

    rows = np.broadcast_to(encode(height)[:, None], (height, width, half))
    columns = np.broadcast_to(encode(width)[None], (height, width, half))
    both = np.concatenate([rows, columns], axis=-1)
    return both.reshape(height * width, features).astype(np.float32)
