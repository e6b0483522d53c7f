"""PointRend (Kirillov et al., CVPR 2020), which recomputes a mask where it is uncertain.

The segmenter's mask has one cell per 4 × 4 pixels, and is uncertain mostly at edges. A small
network predicts the foreground logit at any point of the image, from the segmenter's features,
finer features of the image, and the coarse mask.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int

from lts_jax.models.layers import ConvNormAct, Dtype

DETAIL = 32  # channels of the fine features, at stride 2
LAYERS = 3  # number of hidden layers
OVERSAMPLE, IMPORTANT = 3, 0.75  # k and β in Section 3.3 of the PointRend paper
FEWER_IN_TRAINING = 4


class Points(NamedTuple):
    """Predictions at points of a mask, in training."""

    logits: Float[Array, "b n"]
    places: Float[Array, "b n 2"]  # x and y in [0, 1], from border to border of the image


class PointRend(nn.Module):
    """The point head, with point selection.

    Attributes:
      features: hidden units.
      points: points per refinement step in inference; training uses a quarter of them.
      dtype: dtype of the computation.
    """

    features: int = 256
    points: int = 4096
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Builds the layers; the output layer is initialized to small values."""
        self.detail = ConvNormAct(DETAIL, 3, stride=2, dtype=self.dtype)
        self.hidden = [nn.Dense(self.features, dtype=self.dtype) for _ in range(LAYERS)]
        small = nn.initializers.normal(1e-3)
        self.predict = nn.Dense(1, dtype=self.dtype, kernel_init=small)

    def of_image(self, image: Float[Array, "k s s 3"], *, train: bool) -> Float[Array, "k d d f"]:
        """Returns the sentence-independent fine features, `[K, S/2, S/2, 32]`."""
        detail: jax.Array = self.detail(image, train=train)
        return detail

    def head(
        self,
        mask: Float[Array, "b h w"],
        features: Float[Array, "b g g c"],
        detail: Float[Array, "k d d f"],
        places: Float[Array, "b n 2"],
    ) -> Float[Array, "b n"]:
        """Returns the logits at points.

        Args:
          mask: logits of the segmenter.
          features: features of the segmenter.
          detail: result of `of_image`, of B images or of K images with B / K consecutive sentences.
          places: points, as in `Points`.
        """
        coarse = sample_points(mask[..., None], places)
        known = [sample_points(x, places) for x in (features, detail)]
        x = jnp.concatenate([x.astype(self.dtype) for x in (*known, coarse)], axis=-1)
        for layer in self.hidden:
            x = jnp.concatenate([nn.relu(layer(x)), coarse.astype(self.dtype)], axis=-1)
        logits: jax.Array = self.predict(x)[..., 0].astype(jnp.float32)
        return logits

    def train_points(
        self,
        mask: Float[Array, "b h w"],
        features: Float[Array, "b g g c"],
        detail: Float[Array, "k d d f"],
        key: jax.Array,
    ) -> Points:
        """Returns the logits at random points, three quarters of them at uncertain positions.

        Args:
          mask: logits of the segmenter.
          features: as for `head`.
          detail: as for `head`.
          key: random key.
        """
        n = max(1, self.points // FEWER_IN_TRAINING)
        important = round(IMPORTANT * n)
        many, few = jax.random.split(key)
        places = jax.random.uniform(many, (mask.shape[0], OVERSAMPLE * n, 2))
        sampled = lax.stop_gradient(sample_points(mask[..., None], places)[..., 0])
        chosen = most_uncertain(sampled, important)
        uncertain = jnp.take_along_axis(places, chosen[..., None], axis=1)
        anywhere = jax.random.uniform(few, (mask.shape[0], n - important, 2))
        places = jnp.concatenate([uncertain, anywhere], axis=1)
        return Points(self.head(mask, features, detail, places), places)

    def __call__(
        self,
        mask: Float[Array, "b h w"],
        features: Float[Array, "b g g c"],
        detail: Float[Array, "k d d f"],
    ) -> Float[Array, "b s s"]:
        """Upsamples the mask to the input's size in steps of two, recomputing uncertain cells.

        Args:
          mask: logits of the segmenter, `[B, S/4, S/4]`.
          features: as for `head`.
          detail: as for `head`.

        Returns:
          Logits, float32 `[B, S, S]`.
        """
        finer = mask.astype(jnp.float32)
        while finer.shape[1] < 2 * detail.shape[1]:
            finer = double(finer)
            b, height, width = finer.shape
            flat = finer.reshape(b, height * width)
            chosen = most_uncertain(flat, min(self.points, height * width))
            logits = self.head(mask, features, detail, cell_centers(chosen, height, width))
            made = jax.vmap(lambda row, where, new: row.at[where].set(new))(flat, chosen, logits)
            finer = made.reshape(b, height, width)
        return finer


def most_uncertain(logits: Float[Array, "b n"], number: int) -> Int[Array, "b m"]:
    """Returns the indices of the logits that are closest to 0."""
    return lax.top_k(-jnp.abs(logits), number)[1]


def cell_centers(index: Int[Array, "b n"], height: int, width: int) -> Float[Array, "b n 2"]:
    """Returns the centers of a map's cells, as in `Points`, from their row-major indices."""
    x, y = (index % width + 0.5) / width, (index // width + 0.5) / height
    return jnp.stack([x, y], axis=-1).astype(jnp.float32)


def sample_points(
    maps: Float[Array, "k h w c"], places: Float[Array, "b n 2"]
) -> Float[Array, "b n c"]:
    """Interpolates maps bilinearly; values are clamped beyond the outermost cell centers.

    Equals `torch.nn.functional.grid_sample(padding_mode="border", align_corners=False)`.

    Args:
      maps: maps of B sentences, or of K images with B / K consecutive sentences each.
      places: points of each sentence, as in `Points`.
    """
    k, height, width, c = maps.shape
    b, n, _ = places.shape
    if k != b:
        places = places.reshape(k, b // k * n, 2)
    size = jnp.array([width, height], jnp.float32)
    at = jnp.clip(places * size - 0.5, 0, size - 1)
    low = jnp.minimum(jnp.floor(at), jnp.maximum(size - 2, 0))
    weight = (at - low).astype(maps.dtype)
    first = low.astype(jnp.int32)
    second = jnp.minimum(first + 1, jnp.array([width - 1, height - 1]))
    flat = maps.reshape(k, height * width, c)

    def take(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.take_along_axis(flat, (y * width + x)[..., None], axis=1)

    right, down = weight[..., :1], weight[..., 1:]
    (x0, y0), (x1, y1) = (jnp.moveaxis(corner, -1, 0) for corner in (first, second))
    above = take(x0, y0) * (1 - right) + take(x1, y0) * right
    below = take(x0, y1) * (1 - right) + take(x1, y1) * right
    sampled = above * (1 - down) + below * down
    return sampled if k == b else sampled.reshape(b, n, c)


def double(maps: Float[Array, "b h w"]) -> Float[Array, "b 2*h 2*w"]:
    """Doubles height and width bilinearly, with half-pixel centers."""
    for axis in (1, 2):
        n = maps.shape[axis]
        last = lax.slice_in_dim(maps, n - 1, n, axis=axis)
        before = jnp.concatenate(
            [lax.slice_in_dim(maps, 0, 1, axis=axis), lax.slice_in_dim(maps, 0, n - 1, axis=axis)],
            axis=axis,
        )
        after = jnp.concatenate([lax.slice_in_dim(maps, 1, n, axis=axis), last], axis=axis)
        pair = jnp.stack([0.75 * maps + 0.25 * before, 0.75 * maps + 0.25 * after], axis=axis + 1)
        shape = list(maps.shape)
        shape[axis] = 2 * n
        maps = pair.reshape(shape)
    return maps
