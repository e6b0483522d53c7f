"""Text-guided feature exchange between the levels, and the ConvLSTM that merges them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.cmpc.layers import XAVIER, Linear, MapNorm, unit
from lts_jax.models.layers import Dtype

Maps = Sequence[Float[Array, "b h w c"]]


class Exchange(nn.Module):
    """One round of exchange: each level gathers sentence-relevant features of the others.

    The level's context vector is g_i = unit(W [Λ_i ; s]), where Λ_i is the mean of X_i over the
    cells, weighted by a softmax of (X_i W_k) · (W_q s) / √C. Then
    X_i' = unit(X_i + Σ_{j≠i} sigmoid(W g_i) ⊙ ReLU(W' X_j)).

    Attributes:
      dtype: dtype of the computation; the softmax is float32.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, levels: Maps, sentence: Float[Array, "b d"]) -> list[jax.Array]:
        """Returns the exchanged features of each level, unit vectors `[B, H, W, C]`.

        Args:
          levels: features X_i of each level.
          sentence: s.
        """
        c = levels[0].shape[-1]

        def linear(name: str) -> nn.Dense:
            return Linear(c, dtype=self.dtype, name=name)

        exchanged = []
        for i, x in enumerate(levels):
            scores = jnp.einsum("bhwc,bc->bhw", linear(f"key{i}")(x), linear(f"query{i}")(sentence))
            weights = nn.softmax(scores.astype(jnp.float32) / c**0.5, axis=(1, 2))
            pooled = jnp.einsum("bhw,bhwc->bc", weights.astype(x.dtype), x)
            context = linear(f"context{i}")(jnp.concatenate([pooled, sentence], axis=-1))
            context = unit(context)[:, None, None]
            for j, other in enumerate(levels):
                if j != i:
                    gate = nn.sigmoid(linear(f"gate{i}_of{j}")(context))
                    x = x + gate * nn.relu(linear(f"take{i}_of{j}")(other))
            exchanged.append(unit(x))
        return exchanged


class ConvLSTM(nn.Module):
    """An LSTM over maps (Shi et al., 2015), with a 1×1 kernel, peepholes and LayerNorm.

    The peepholes have one weight per cell, so the parameters depend on the size of the map.
    LayerNorm normalizes over cells and channels. The forget gate's input is increased by 1.

    Attributes:
      features: channels of the state.
      dtype: dtype of the computation.
    """

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, maps: Maps) -> Float[Array, "b h w f"]:
        """Reads maps `[B, H, W, C]` in order; returns the last hidden state `[B, H, W, F]`."""
        b, h, w, _ = maps[0].shape
        gates = nn.Dense(
            4 * self.features, use_bias=False, kernel_init=XAVIER, dtype=self.dtype, name="gates"
        )
        peepholes = {
            k: self.param(f"peephole_{k}", XAVIER, (h, w, self.features)).astype(self.dtype)
            for k in ("input", "forget", "output")
        }
        norms = {
            k: MapNorm(reduction_axes=(1, 2, 3), dtype=self.dtype, name=f"{k}_norm")
            for k in ("candidate", "input", "forget", "output", "cell")
        }
        cell = hidden = jnp.zeros((b, h, w, self.features), self.dtype)
        for x in maps:
            y = gates(jnp.concatenate([x.astype(self.dtype), hidden], axis=-1))
            j, i, f, o = jnp.split(y, 4, axis=-1)
            i = norms["input"](i + peepholes["input"] * cell)
            f = norms["forget"](f + peepholes["forget"] * cell)
            cell = cell * nn.sigmoid(f + 1) + nn.sigmoid(i) * jnp.tanh(norms["candidate"](j))
            o = norms["output"](o + peepholes["output"] * cell)
            cell = norms["cell"](cell)
            hidden = nn.sigmoid(o) * jnp.tanh(cell)
        return hidden
