"""The sentence encoder of LTS: word embeddings and a bidirectional GRU (Eq. 3 and 4)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from lts_jax.models.layers import Dtype


class TextFeatures(NamedTuple):
    """The features of a sentence."""

    words: Float[Array, "b t d"]  # h_t, [B, T, D]; zero at padding
    valid: Bool[Array, "b t"]  # bool [B, T]: False at padding
    sentence: Float[Array, "b d"]  # f_text, [B, D]: the mean of h_t without padding


def word_embedding(vocab_size: int, embed_dim: int, dtype: Dtype) -> nn.Embed:
    """Returns the embedding table of a sentence encoder, to be called in its `__call__`."""
    # 0.3 is about the standard deviation of GloVe's 300-d vectors.
    initializer = nn.initializers.normal(0.3)
    return nn.Embed(vocab_size, embed_dim, embedding_init=initializer, dtype=dtype, name="embed")


class MaskedGRU(nn.Module):
    """One direction of a GRU; padding does not change its state.

    Attributes:
      features: size of the hidden state.
      reverse: read the sentence backwards.
      dtype: dtype of the computation.
    """

    features: int
    reverse: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], valid: Bool[Array, "b t"]
    ) -> Float[Array, "b t f"]:
        """Maps `[B, T, D]` and bool `[B, T]` to hidden states `[B, T, features]`."""

        def step(
            cell: nn.GRUCell, carry: jax.Array, inputs: tuple[jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            x_t, valid_t = inputs
            updated, _ = cell(carry, x_t)
            carry = jnp.where(valid_t[:, None], updated, carry)
            return carry, carry

        scan = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
            reverse=self.reverse,
        )
        start = jnp.zeros((x.shape[0], self.features), self.dtype)
        cell = nn.GRUCell(self.features, dtype=self.dtype, name="cell")
        return scan(cell, start, (x, valid))[1]


class TextEncoder(nn.Module):
    """Word embeddings and a bidirectional GRU.

    Attributes:
      vocab_size: rows of the embedding table; id 0 is padding, 1 is the unknown word.
      embed_dim: size of the word vectors.
      features: hidden size per direction; the output has twice as many channels.
      dtype: dtype of the computation.
    """

    vocab_size: int
    embed_dim: int = 300
    features: int = 512
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b t"], lengths: Int[Array, " b"], *, train: bool = False
    ) -> TextFeatures:
        """Encodes ids int32 `[B, T]` with lengths int32 `[B]`, each at least 1.

        `train` has no effect; it exists for encoders with dropout.
        """
        valid = jnp.arange(tokens.shape[1]) < lengths[:, None]
        x = word_embedding(self.vocab_size, self.embed_dim, self.dtype)(tokens)
        forward = MaskedGRU(self.features, dtype=self.dtype, name="forward")(x, valid)
        backward = MaskedGRU(self.features, reverse=True, dtype=self.dtype, name="backward")(
            x, valid
        )
        words = jnp.concatenate([forward, backward], axis=-1)
        words = jnp.where(valid[:, :, None], words, 0)
        sentence = words.sum(axis=1) / lengths[:, None].astype(words.dtype)
        return TextFeatures(words=words, valid=valid, sentence=sentence)
