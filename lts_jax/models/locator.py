"""The locator: where in the image is the referred object? (Section 3.2)."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.layers import ConvNormAct, Dtype
from lts_jax.models.text_encoder import TextFeatures
from lts_jax.models.transformer import DecoderLayer, sine_position_encoding

Locate = Literal["filter", "word_filter", "transformer", "none"]
Prior = Literal["probability", "logits"]


class FilterLocator(nn.Module):
    """Relevance filtering: the sentence makes one 1×1 kernel over F_m3 (Eq. 8)."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, fused: Float[Array, "b h w c"], text: TextFeatures) -> Float[Array, "b h w"]:
        """Returns the logits of H_mask, `[B, H/8, W/8]`, of F_m3 `[B, H/8, W/8, d_k]`."""
        kernel = nn.Dense(fused.shape[-1], use_bias=False, dtype=self.dtype, name="kernel")
        return jnp.einsum("bhwc,bc->bhw", fused, kernel(text.sentence))


class WordFilterLocator(nn.Module):
    """Every word makes a kernel; their responses are regressed to one map (Table 5, as DMN).

    The responses are sown as `words`, `[B, T, H/8, W/8]`, zero at padded words. As the
    regression has one weight per place in the sentence, T is part of the parameters.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, fused: Float[Array, "b h w c"], text: TextFeatures) -> Float[Array, "b h w"]:
        """Returns the logits of H_mask, `[B, H/8, W/8]`, of F_m3 `[B, H/8, W/8, d_k]`."""
        kernel = nn.Dense(fused.shape[-1], use_bias=False, dtype=self.dtype, name="kernel")
        # h_t is zero at padded steps, and so is the response of a kernel without a bias.
        responses = jnp.einsum("bhwc,btc->bhwt", fused, kernel(text.words))
        self.sow("intermediates", "words", jnp.moveaxis(responses, -1, 1))
        return nn.Dense(1, dtype=self.dtype, name="regress")(responses)[..., 0]


class TransformerLocator(nn.Module):
    """One decoder layer: the cells of F_m3 ask each other and the sentence (Eq. 9).

    Attributes:
      heads: of each attention.
      dtype: of the computation.
    """

    heads: int = 4
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, fused: Float[Array, "b h w c"], text: TextFeatures) -> Float[Array, "b h w"]:
        """Returns the logits of H_mask, `[B, H/8, W/8]`, of F_m3 `[B, H/8, W/8, d_k]`."""
        b, h, w, c = fused.shape
        position = jnp.asarray(sine_position_encoding(h, w, c))
        # In the backward pass computed again: the attention of every round at once would be the
        # largest part of the memory.
        layer = nn.remat(DecoderLayer)(self.heads, dtype=self.dtype, name="layer")
        x = layer(fused.reshape(b, h * w, c), position, text.sentence[:, None])
        return nn.Dense(1, dtype=self.dtype, name="map")(x).reshape(b, h, w)


LOCATORS = {
    "filter": FilterLocator,
    "word_filter": WordFilterLocator,
    "transformer": TransformerLocator,
}


class Locator(nn.Module):
    """One or several rounds of a locator; from the second on, it sees the map before.

    Each round has parameters of its own.

    Attributes:
      kind: a key of `LOCATORS`.
      rounds: n of Table 5.
      prior: how a map is shown to the next round.
      dtype: of the computation.
    """

    kind: Locate = "filter"
    rounds: int = 1
    prior: Prior = "probability"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, fused: Float[Array, "b h w c"], text: TextFeatures, *, train: bool
    ) -> Float[Array, "b rounds h w"]:
        """Returns the logits of H_mask by round, `[B, rounds, H/8, W/8]`."""
        maps: list[jax.Array] = []
        x = fused
        for i in range(self.rounds):
            if i:
                seen = as_prior(maps[-1], self.prior)[..., None].astype(fused.dtype)
                mix = ConvNormAct(fused.shape[-1], dtype=self.dtype, name=f"mix{i}")
                x = mix(jnp.concatenate([fused, seen], axis=-1), train=train)
            maps.append(LOCATORS[self.kind](dtype=self.dtype, name=f"round{i}")(x, text))
        return jnp.stack(maps, axis=1)


def as_prior(heatmap: Float[Array, "b h w"], prior: Prior) -> Float[Array, "b h w"]:
    """What follows sees of a map's logits: Eq. 12 treats H_mask as probabilities."""
    return nn.sigmoid(heatmap) if prior == "probability" else heatmap
