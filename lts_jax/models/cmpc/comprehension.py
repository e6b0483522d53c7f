"""Progressive cross-modal comprehension: bilinear fusion for entities, a graph for relations."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from lts_jax.models.cmpc.layers import (
    Heads,
    Linear,
    LinearOfParts,
    MapNorm,
    spatial_coordinates,
    unit,
)
from lts_jax.models.layers import Dtype, for_sentences


class Sentence(NamedTuple):
    """The features of a sentence in CMPC."""

    words: Float[Array, "b t d"]  # l_t, unit vectors; zero at padding
    valid: Bool[Array, "b t"]  # False at padding
    types: Float[Array, "b t 4"]  # p_t: entity, attribute, relation, unnecessary

    def entities(self) -> Float[Array, "b d"]:
        """Returns q = Σ_t (p_t^ent + p_t^attr) l_t, as a unit vector."""
        return self._sum(2)

    def necessary(self) -> Float[Array, "b d"]:
        """Returns s = Σ_t (p_t^ent + p_t^attr + p_t^rel) l_t, as a unit vector."""
        return self._sum(3)

    def _sum(self, types: int) -> jax.Array:
        weights = self.types[..., :types].sum(-1).astype(self.words.dtype)
        return unit(jnp.einsum("bt,btd->bd", weights, self.words))


class WordTypes(nn.Module):
    """Soft assignment of each word to four types: p_t = softmax(W_2 ReLU(W_1 l_t + b_1) + b_2).

    Attributes:
      hidden: hidden channels.
      dtype: dtype of the computation; the types are float32.
    """

    hidden: int = 500
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, words: Float[Array, "b t d"]) -> Float[Array, "b t 4"]:
        """Maps l_t `[B, T, D]` to p_t `[B, T, 4]`, which sum to 1."""
        x = nn.relu(Linear(self.hidden, dtype=self.dtype, name="hidden_map")(words))
        logits = Linear(4, dtype=self.dtype, name="types")(x)
        return nn.softmax(logits.astype(jnp.float32))


class RelationReasoning(nn.Module):
    """One graph convolution over all cells, with edges defined by relation words.

    R = p^rel W_R L and B = (M W_M) Rᵀ / √C measure the relevance of each word to each cell. The
    adjacency matrix A = softmax_words(B) softmax_cells(B)ᵀ connects cells through words. It is
    never materialized: A M = softmax_words(B) (softmax_cells(B)ᵀ M).

    Attributes:
      dtype: dtype of the computation; softmaxes are float32.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, nodes: Float[Array, "b n c"], sentence: Sentence) -> Float[Array, "b n c"]:
        """Maps M `[B, N, C]` to ReLU(norm(W ReLU(M + norm(A M)))), unit vectors `[B, N, C]`."""
        c = nodes.shape[-1]
        words = Linear(c, dtype=self.dtype, name="words")(sentence.words)
        cells = Linear(c, dtype=self.dtype, name="cells")(nodes)
        affinity = jnp.einsum("bnc,btc->bnt", cells, words).astype(jnp.float32) / c**0.5
        affinity = affinity * sentence.types[:, None, :, 2]
        real = sentence.valid[:, None]
        by_word = jnp.where(real, affinity, -jnp.inf)
        to_words = nn.softmax(by_word, axis=2).astype(nodes.dtype)
        to_cells = nn.softmax(affinity, axis=1).astype(nodes.dtype)
        message = jnp.einsum("bnt,bnc->btc", to_cells, nodes)
        message = jnp.einsum("bnt,btc->bnc", to_words, message)
        message = MapNorm(reduction_axes=(1, 2), dtype=self.dtype, name="message_norm")(message)
        x = Linear(c, dtype=self.dtype, name="update")(nn.relu(nodes + message))
        x = MapNorm(reduction_axes=(1, 2), dtype=self.dtype, name="update_norm")(x)
        return unit(nn.relu(x))


class Level(nn.Module):
    """Comprehension at one level of the backbone.

    Attributes:
      features: channels C of V and of the nodes M.
      fused_features: channels of X.
      heads: R, the rank of the bilinear fusion.
      dtype: dtype of the computation.
    """

    features: int = 1000
    fused_features: int = 500
    heads: int = 5
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Builds the linear maps."""
        self.lateral = Linear(self.features, dtype=self.dtype)
        self.image = Heads(self.heads, self.features, dtype=self.dtype)
        self.text = Heads(self.heads, self.features, dtype=self.dtype)
        self.reasoning = RelationReasoning(dtype=self.dtype)
        self.fuse = LinearOfParts(self.fused_features, dtype=self.dtype)

    def of_image(self, tap: Float[Array, "k h w c"]) -> Float[Array, "k h w r f"]:
        """Computes the sentence-independent tanh(W_r [V ; coordinates]) for each r."""
        k, h, w, _ = tap.shape
        visual = unit(self.lateral(tap))
        where = spatial_coordinates(h, w).astype(visual.dtype)
        where = jnp.broadcast_to(where, (k, *where.shape))
        heads: jax.Array = self.image(jnp.concatenate([visual, where], axis=-1))
        return heads

    def perceive(
        self, image: Float[Array, "k h w r f"], entities: Float[Array, "b d"]
    ) -> Float[Array, "b h w f"]:
        """Perceives entities: M = tanh(Σ_r tanh(W_r [V ; coordinates]) ⊙ tanh(U_r q)), normalized.

        Args:
          image: result of `of_image`, for B images or K images with B / K sentences each.
          entities: q.
        """
        heads = for_sentences(image, entities.shape[0]) * self.text(entities)[:, None, None]
        return unit(jnp.tanh(heads.sum(-2)))

    def __call__(
        self, image: Float[Array, "k h w r f"], sentence: Sentence, entities: Float[Array, "b d"]
    ) -> Float[Array, "b h w q"]:
        """Returns X = ReLU(W [M ; graph(M) ; q ; coordinates]), `[B, H/8, W/8, fused_features]`."""
        nodes = self.perceive(image, entities)
        b, h, w, c = nodes.shape
        graph = self.reasoning(nodes.reshape(b, h * w, c), sentence).reshape(b, h, w, c)
        where = spatial_coordinates(h, w)[None]
        return nn.relu(self.fuse([nodes, graph, entities[:, None, None], where]))
