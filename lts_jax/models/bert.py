"""BERT (Devlin et al., NAACL 2019), of any size, as a sentence encoder."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from lts_jax.models.layers import Dtype, rematerialized
from lts_jax.models.text_encoder import TextFeatures

_layer_norm = functools.partial(nn.LayerNorm, epsilon=1e-12)
_init = nn.initializers.truncated_normal(0.02)


class BertLayer(nn.Module):
    """A post-norm transformer layer: self-attention and MLP, each followed by add and norm.

    Attributes:
      heads: number of attention heads.
      intermediate: channels of the MLP.
      dropout: dropout rate of both outputs and of the attention weights.
      dtype: dtype of the computation.
    """

    heads: int
    intermediate: int
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], valid: Bool[Array, "b t"], *, train: bool
    ) -> Float[Array, "b t d"]:
        """Maps `[B, T, D]` to the same shape; tokens ignore padding, where `valid` is False."""
        d = x.shape[-1]
        dense = functools.partial(nn.DenseGeneral, kernel_init=_init, dtype=self.dtype)
        norm = functools.partial(_layer_norm, dtype=self.dtype)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        query, key, value = (
            dense((self.heads, d // self.heads), name=name)(x) for name in ("query", "key", "value")
        )
        query = query * query.shape[-1] ** -0.5
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        scores = jnp.where(valid[:, None, None], scores, -1e30)
        weights = drop(jax.nn.softmax(scores).astype(value.dtype))
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        y = drop(dense(d, axis=(-2, -1), name="out")(y))
        x = norm(name="attention_norm")(x + y)
        y = nn.gelu(dense(self.intermediate, name="expand")(x), approximate=False)
        y = drop(dense(d, name="reduce")(y))
        out: jax.Array = norm(name="mlp_norm")(x + y)
        return out


class BertEncoder(nn.Module):
    """BERT without its pooler; the defaults are bert-base's sizes.

    Attributes:
      vocab_size: number of word pieces, including special ones.
      hidden: channels D of a token.
      layers: number of layers.
      heads: number of attention heads.
      intermediate: channels of the MLPs.
      max_positions: number of position embeddings, the maximum sentence length in tokens.
      dropout: dropout rate in training.
      dtype: dtype of the computation.
      remat: in training, store only each layer's input for the backward pass.
    """

    vocab_size: int
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    max_positions: int = 512
    dropout: float = 0.0
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b t"], lengths: Int[Array, " b"], *, train: bool = False
    ) -> TextFeatures:
        """Encodes ids int32 `[B, T]`, including [CLS] and [SEP], with lengths int32 `[B]`.

        `sentence` is the mean over all tokens except padding, as in Sentence-BERT.
        """
        t = tokens.shape[1]
        valid = jnp.arange(t) < lengths[:, None]
        embed = functools.partial(
            nn.Embed, features=self.hidden, embedding_init=_init, dtype=self.dtype
        )
        x = embed(self.vocab_size, name="embed")(tokens)
        x = x + embed(2, name="segment")(jnp.zeros(1, jnp.int32))
        x = x + embed(self.max_positions, name="position")(jnp.arange(t))
        x = _layer_norm(dtype=self.dtype, name="embed_norm")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        run = rematerialized(self.remat and train)
        for i in range(self.layers):
            layer = BertLayer(
                self.heads, self.intermediate, self.dropout, self.dtype, name=f"layer{i}"
            )
            x = run(layer, x, valid, train=train)
        words = jnp.where(valid[:, :, None], x, 0)
        sentence = words.sum(axis=1) / lengths[:, None].astype(words.dtype)
        return TextFeatures(words=words, valid=valid, sentence=sentence)
