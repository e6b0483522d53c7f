"""PointRend (Kirillov et al., CVPR 2020): a mask is computed anew where it is uncertain.

The segmenter's mask has a cell for 4 × 4 pixels, and is sure of nearly all but those at an edge.
A small network sees, at any point of the image, the features of the sentence's segmenter, finer
ones of the picture itself and the coarse mask, and says whether the point belongs to the object.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int

from lts_jax.models.layers import ConvNormAct, Dtype

DETAIL = 32  # channels of the finer features, at stride 2
LAYERS = 3  # hidden ones
OVERSAMPLE, IMPORTANT = 3, 0.75  # k and β of the paper's Section 3.3
FEWER_IN_TRAINING = 4


class Points(NamedTuple):
    """What training says of some points of a mask."""

    logits: Float[Array, "b n"]
    places: Float[Array, "b n 2"]  # x and y from 0 to 1, from one edge of the image to the other


class PointRend(nn.Module):
    """The head on points, and where it is applied.

    Attributes:
      features: hidden units.
      points: computed anew in each step of inference; in training a quarter as many.
      dtype: of the computation.
    """

    features: int = 256
    points: int = 4096
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Builds the layers; the last one begins near 0, where a mask is undecided."""
        self.detail = ConvNormAct(DETAIL, 3, stride=2, dtype=self.dtype)
        self.hidden = [nn.Dense(self.features, dtype=self.dtype) for _ in range(LAYERS)]
        small = nn.initializers.normal(1e-3)
        self.predict = nn.Dense(1, dtype=self.dtype, kernel_init=small)

    def of_image(self, image: Float[Array, "k s s 3"], *, train: bool) -> Float[Array, "k d d f"]:
        """The finer features, which no sentence changes, `[K, S/2, S/2, 32]`."""
        detail: jax.Array = self.detail(image, train=train)
        return detail

    def head(
        self,
        mask: Float[Array, "b h w"],
        features: Float[Array, "b g g c"],
        detail: Float[Array, "k d d f"],
        places: Float[Array, "b n 2"],
    ) -> Float[Array, "b n"]:
        """The logits at some points.

        Args:
          mask: the segmenter's logits.
          features: of the segmenter.
          detail: of `of_image`, of B images or of K with B / K sentences each, in a row.
          places: as in `Points`.
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
        """The logits at random points, three quarters of them the most uncertain of many.

        Args:
          mask: the segmenter's logits, as the others for `head`.
          features: see there.
          detail: see there.
          key: of the random numbers.
        """
        n = max(1, self.points // FEWER_IN_TRAINING)
        important = round(IMPORTANT * n)
        many, few = jax.random.split(key)
        places = jax.random.uniform(many, (mask.shape[0], OVERSAMPLE * n, 2))
        found = lax.stop_gradient(sample_points(mask[..., None], places)[..., 0])
        chosen = most_uncertain(found, important)
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
        """Doubles the mask up to the input's size; each time the uncertain cells are made anew.

        Args:
          mask: the segmenter's logits `[B, S/4, S/4]`, as the others for `head`.
          features: see there.
          detail: see there.

        Returns:
          Logits, float32 `[B, S, S]`.
        """
        finer = mask.astype(jnp.float32)
        while finer.shape[1] < 2 * detail.shape[1]:
            finer = double(finer)
            b, height, width = finer.shape
            flat = finer.reshape(b, height * width)
            chosen = most_uncertain(flat, min(self.points, height * width))
            logits = self.head(mask, features, detail, cell_centres(chosen, height, width))
            made = jax.vmap(lambda row, where, new: row.at[where].set(new))(flat, chosen, logits)
            finer = made.reshape(b, height, width)
        return finer


def most_uncertain(logits: Float[Array, "b n"], number: int) -> Int[Array, "b m"]:
    """Where the logits are nearest to 0."""
    return lax.top_k(-jnp.abs(logits), number)[1]


def cell_centres(index: Int[Array, "b n"], height: int, width: int) -> Float[Array, "b n 2"]:
    """Places of the cells of a map by their numbers in row-major order."""
    x, y = (index % width + 0.5) / width, (index // width + 0.5) / height
    return jnp.stack([x, y], axis=-1).astype(jnp.float32)


def sample_points(
    maps: Float[Array, "k h w c"], places: Float[Array, "b n 2"]
) -> Float[Array, "b n c"]:
    """Interpolates maps bilinearly; beyond the outermost cell centres the outermost values hold.

    As `torch.nn.functional.grid_sample` with `padding_mode="border"` and `align_corners=False`.

    Args:
      maps: of B sentences, or of K images with B / K sentences each, in a row.
      places: of each sentence, as in `Points`.
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
    found = above * (1 - down) + below * down
    return found if k == b else found.reshape(b, n, c)


def double(maps: Float[Array, "b h w"]) -> Float[Array, "b 2*h 2*w"]:
    """Doubles height and width bilinearly, with half-pixel centres."""
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
