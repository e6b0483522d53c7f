"""A sentence encoder with word embeddings and a unidirectional LSTM."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Int

from lts_jax.models.layers import Dtype
from lts_jax.models.text_encoder import TextFeatures, word_embedding

_Carry = tuple[jax.Array, jax.Array]


class LSTMEncoder(nn.Module):
    """Word embeddings and an LSTM (Hochreiter and Schmidhuber, 1997), as in CMPC.

    The forget gate's input is increased by 1, so that an untrained LSTM keeps its state.

    Attributes:
      vocab_size: rows of the embedding table; id 0 is padding, 1 is the unknown word.
      embed_dim: size of the word vectors.
      features: number of units.
      dtype: dtype of the computation.
    """

    vocab_size: int
    embed_dim: int = 300
    features: int = 1000
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b t"], lengths: Int[Array, " b"], *, train: bool = False
    ) -> TextFeatures:
        """Encodes ids int32 `[B, T]` with lengths int32 `[B]`, each at least 1.

        `train` has no effect. `sentence` is the state after the last word.
        """
        valid = jnp.arange(tokens.shape[1]) < lengths[:, None]
        x = word_embedding(self.vocab_size, self.embed_dim, self.dtype)(tokens)
        x = nn.Dense(4 * self.features, dtype=self.dtype, name="input")(x)
        state = nn.Dense(4 * self.features, use_bias=False, dtype=self.dtype, name="state")

        def step(
            state: nn.Dense, carry: _Carry, inputs: tuple[jax.Array, jax.Array]
        ) -> tuple[_Carry, jax.Array]:
            cell, hidden = carry
            x_t, valid_t = inputs
            i, j, f, o = jnp.split(x_t + state(hidden), 4, axis=-1)
            new_cell = cell * nn.sigmoid(f + 1) + nn.sigmoid(i) * jnp.tanh(j)
            new_hidden = jnp.tanh(new_cell) * nn.sigmoid(o)
            real = valid_t[:, None]
            carry = jnp.where(real, new_cell, cell), jnp.where(real, new_hidden, hidden)
            return carry, carry[1]

        scan = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        zeros = jnp.zeros((tokens.shape[0], self.features), self.dtype)
        (_, last), states = scan(state, (zeros, zeros), (x, valid))
        words = jnp.where(valid[:, :, None], states, 0)
        return TextFeatures(words=words, valid=valid, sentence=last)
