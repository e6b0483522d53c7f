"""The locator, which predicts where the object is in the image (Section 3.2)."""

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
    """Relevance filtering: the sentence generates one 1×1 kernel for F_m3 (Eq. 8)."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, fused: Float[Array, "b h w c"], text: TextFeatures) -> Float[Array, "b h w"]:
        """Maps F_m3 `[B, H/8, W/8, d_k]` to the logits of H_mask, `[B, H/8, W/8]`."""
        kernel = nn.Dense(fused.shape[-1], use_bias=False, dtype=self.dtype, name="kernel")
        return jnp.einsum("bhwc,bc->bhw", fused, kernel(text.sentence))


class WordFilterLocator(nn.Module):
    """Generates one kernel per word and regresses the responses to one map (Table 5, as DMN).

    The responses are sown as `words`, `[B, T, H/8, W/8]`, zero at padding. The regression has one
    weight per position in the sentence, so the parameters depend on T.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, fused: Float[Array, "b h w c"], text: TextFeatures) -> Float[Array, "b h w"]:
        """Maps F_m3 `[B, H/8, W/8, d_k]` to the logits of H_mask, `[B, H/8, W/8]`."""
        kernel = nn.Dense(fused.shape[-1], use_bias=False, dtype=self.dtype, name="kernel")
        # h_t is zero at padding, and so is the response of a kernel without bias.
        responses = jnp.einsum("bhwc,btc->bhwt", fused, kernel(text.words))
        self.sow("intermediates", "words", jnp.moveaxis(responses, -1, 1))
        return nn.Dense(1, dtype=self.dtype, name="regress")(responses)[..., 0]


class TransformerLocator(nn.Module):
    """One decoder layer: the cells of F_m3 attend to each other and to the sentence (Eq. 9).

    Attributes:
      heads: number of attention heads.
      dtype: dtype of the computation.
    """

    heads: int = 4
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, fused: Float[Array, "b h w c"], text: TextFeatures) -> Float[Array, "b h w"]:
        """Maps F_m3 `[B, H/8, W/8, d_k]` to the logits of H_mask, `[B, H/8, W/8]`."""
        b, h, w, c = fused.shape
        position = jnp.asarray(sine_position_encoding(h, w, c))
        # Recomputed in the backward pass: storing the attention weights of all rounds would take
        # most of the memory.
        layer = nn.remat(DecoderLayer)(self.heads, dtype=self.dtype, name="layer")
        x = layer(fused.reshape(b, h * w, c), position, text.sentence[:, None])
        return nn.Dense(1, dtype=self.dtype, name="map")(x).reshape(b, h, w)


LOCATORS = {
    "filter": FilterLocator,
    "word_filter": WordFilterLocator,
    "transformer": TransformerLocator,
}


class Locator(nn.Module):
    """One or more rounds of a locator; each round after the first receives the previous map.

    Each round has its own parameters.

    Attributes:
      kind: a key of `LOCATORS`.
      rounds: number of rounds, n of Table 5.
      prior: form in which a map is passed to the next round.
      dtype: dtype of the computation.
    """

    kind: Locate = "filter"
    rounds: int = 1
    prior: Prior = "probability"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, fused: Float[Array, "b h w c"], text: TextFeatures, *, train: bool
    ) -> Float[Array, "b rounds h w"]:
        """Returns the logits of H_mask for each round, `[B, rounds, H/8, W/8]`."""
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
    """Returns the form of a map's logits that the next part receives; Eq. 12 uses probabilities."""
    return nn.sigmoid(heatmap) if prior == "probability" else heatmap
