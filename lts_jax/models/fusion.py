"""Fusion of image and sentence into one feature map (Eq. 5 to 7)."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.coarse_fine import CoarseFine
from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.layers import ConvNormAct, Dtype, for_sentences, leaky_relu


class Fusion(nn.Module):
    """Multiplies the coarsest image features by the sentence, then adds finer features twice.

    Attributes:
      features: channels of F_m1, and of F_m2 and F_m3 (half from each side of Eq. 7).
      use_text: False omits the sentence from Eq. 5 (Table 2: without fusion).
      coordinates: append each cell's coordinates as channels, see `with_coordinates`.
      dtype: dtype of the computation.
    """

    features: int = 1024
    use_text: bool = True
    coordinates: bool = False
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Builds the 1×1 convolutions: `image…` for image features, `up…` for fused features."""
        half = self.features // 2
        self.image32 = ConvNormAct(self.features, dtype=self.dtype)
        self.image16, self.up16, self.image8, self.up8 = (
            ConvNormAct(half, dtype=self.dtype) for _ in range(4)
        )
        if self.use_text:
            self.text = nn.Dense(self.features, dtype=self.dtype)

    def of_image(self, image: ImageFeatures, *, train: bool) -> ImageFeatures:
        """Computes what is independent of the sentence: 1×1 convolutions of the image features."""
        if self.coordinates:
            image = ImageFeatures(*map(with_coordinates, image))
        return ImageFeatures(
            self.image8(image.stride8, train=train),
            self.image16(image.stride16, train=train),
            self.image32(image.stride32, train=train),
        )

    def __call__(
        self,
        image: ImageFeatures,
        sentence: Float[Array, "b d"],
        *,
        train: bool,
        known: bool = False,
    ) -> CoarseFine:
        """Fuses image features and f_text `[B, D]` into F_m3.

        Args:
          image: features of B images, or of K images with B / K consecutive sentences each. Then
            sentence-independent results are computed K times, and F_m3's fine half has K images.
          sentence: f_text.
          train: normalize by batch statistics.
          known: `image` is the result of `of_image`.
        """
        taps = image if known else self.of_image(image, train=train)
        x = taps.stride32
        if self.use_text:
            x = for_sentences(x, sentence.shape[0])
            x = x * leaky_relu(self.text(sentence))[:, None, None]
        # Eq. 6 upsamples first. The result is the same, as copies of a cell change neither the 1×1
        # convolution nor the batch statistics, but it would take four times the work.
        middle = CoarseFine(self.up16(x, train=train), taps.stride16).merge()
        return CoarseFine(self.up8(middle, train=train), taps.stride8)


def coordinates(height: int, width: int) -> Float[Array, "h w 2"]:
    """Returns the cell centers of a map, x to the right and y down, from -1 to 1 at the borders."""
    y, x = ((jnp.arange(n) + 0.5) * 2 / n - 1 for n in (height, width))
    return jnp.stack(jnp.broadcast_arrays(x[None, :], y[:, None]), axis=-1)


def with_coordinates(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c+2"]:
    """Appends `coordinates` as two channels, as a convolution cannot infer them."""
    b, h, w, _ = x.shape
    where = jnp.broadcast_to(coordinates(h, w).astype(x.dtype), (b, h, w, 2))
    return jnp.concatenate([x, where], axis=-1)
