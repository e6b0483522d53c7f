"""Fusion of image and sentence into one feature map (Eq. 5 to 7)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.layers import ConvNormAct, Dtype, leaky_relu, upsample_nearest


class Fusion(nn.Module):
    """Multiplies the coarsest image features by the sentence, then adds detail twice.

    Attributes:
      features: channels of F_m1, and of F_m2 and F_m3 (half from each side of Eq. 7).
      use_text: False leaves the sentence out of Eq. 5 (Table 2: without fusion).
      dtype: of the computation.
    """

    features: int = 1024
    use_text: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: ImageFeatures, sentence: jax.Array, *, train: bool) -> jax.Array:
        """Fuses the taps and f_text `[B, D]` into F_m3 `[B, H/8, W/8, features]`."""
        half = self.features // 2
        x = ConvNormAct(self.features, dtype=self.dtype, name="image32")(
            image.stride32, train=train
        )
        if self.use_text:
            text = leaky_relu(nn.Dense(self.features, dtype=self.dtype, name="text")(sentence))
            x = x * text[:, None, None]
        for stride, tap in ((16, image.stride16), (8, image.stride8)):
            coarse = ConvNormAct(half, dtype=self.dtype, name=f"up{stride}")
            fine = ConvNormAct(half, dtype=self.dtype, name=f"image{stride}")
            # Eq. 6 upsamples first: the same function, as copies of a pixel change neither the
            # 1×1 convolution nor the batch's mean and variance, at four times the work.
            x = upsample_nearest(coarse(x, train=train))
            x = jnp.concatenate([x, fine(tap, train=train)], axis=-1)
        return x
