"""Cross-modal progressive comprehension: entities by bilinear fusion, relations by a graph."""

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
    """A sentence as CMPC reads it."""

    words: Float[Array, "b t d"]  # l_t, unit vectors; zero at padding
    valid: Bool[Array, "b t"]  # True at real words
    types: Float[Array, "b t 4"]  # p_t: entity, attribute, relation, unnecessary

    def entities(self) -> Float[Array, "b d"]:
        """q = Σ_t (p_t^ent + p_t^attr) l_t, as a unit vector."""
        return self._sum(2)

    def necessary(self) -> Float[Array, "b d"]:
        """s = Σ_t (p_t^ent + p_t^attr + p_t^rel) l_t, as a unit vector."""
        return self._sum(3)

    def _sum(self, types: int) -> jax.Array:
        weights = self.types[..., :types].sum(-1).astype(self.words.dtype)
        return unit(jnp.einsum("bt,btd->bd", weights, self.words))


class WordTypes(nn.Module):
    """Four soft types of each word: p_t = softmax(W_2 ReLU(W_1 l_t + b_1) + b_2).

    Attributes:
      hidden: channels between the two maps.
      dtype: of the computation; the types are float32.
    """

    hidden: int = 500
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, words: Float[Array, "b t d"]) -> Float[Array, "b t 4"]:
        """Returns p_t `[B, T, 4]`, which sum to 1, of l_t `[B, T, D]`."""
        x = nn.relu(Linear(self.hidden, dtype=self.dtype, name="hidden_map")(words))
        logits = Linear(4, dtype=self.dtype, name="types")(x)
        return nn.softmax(logits.astype(jnp.float32))


class RelationReasoning(nn.Module):
    """One graph convolution over all cells, whose edges are made by the words of relations.

    R = p^rel W_R L and B = (M W_M) Rᵀ / √C say how much a cell has to do with a word; the
    adjacency is A = softmax_words(B) softmax_cells(B)ᵀ, from each cell over the words to every
    other. It is never written: A M = softmax_words(B) (softmax_cells(B)ᵀ M).

    Attributes:
      dtype: of the computation; softmaxes are float32.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, nodes: Float[Array, "b n c"], sentence: Sentence) -> Float[Array, "b n c"]:
        """Returns unit vectors `[B, N, C]`: ReLU(norm(W ReLU(M + norm(A M)))) of M `[B, N, C]`."""
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
      dtype: of the computation.
    """

    features: int = 1000
    fused_features: int = 500
    heads: int = 5
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Builds the maps."""
        self.lateral = Linear(self.features, dtype=self.dtype)
        self.image = Heads(self.heads, self.features, dtype=self.dtype)
        self.text = Heads(self.heads, self.features, dtype=self.dtype)
        self.reasoning = RelationReasoning(dtype=self.dtype)
        self.fuse = LinearOfParts(self.fused_features, dtype=self.dtype)

    def of_image(self, tap: Float[Array, "k h w c"]) -> Float[Array, "k h w r f"]:
        """What no sentence changes: tanh(W_r [V ; coordinates]) for each r, of a backbone's tap."""
        k, h, w, _ = tap.shape
        visual = unit(self.lateral(tap))
        where = spatial_coordinates(h, w).astype(visual.dtype)
        where = jnp.broadcast_to(where, (k, *where.shape))
        heads: jax.Array = self.image(jnp.concatenate([visual, where], axis=-1))
        return heads

    def perceive(
        self, image: Float[Array, "k h w r f"], entities: Float[Array, "b d"]
    ) -> Float[Array, "b h w f"]:
        """Entity perception: M = tanh(Σ_r tanh(W_r [V ; coordinates]) ⊙ tanh(U_r q)), unit vectors.

        Args:
          image: what `of_image` returned, of B images or of K with B / K sentences each.
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
