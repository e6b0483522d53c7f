"""Attention between the image's cells, and from cells to words, before the locator.

The filter (Eq. 8) scores each cell by its own features. Expressions such as "second from the left"
and "next to the cross" also depend on other cells. With these layers, each cell attends to all
other cells and to each word of the sentence.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from lts_jax.models.layers import Dtype
from lts_jax.models.text_encoder import TextFeatures
from lts_jax.models.transformer import sine_position_encoding

HEADS = 4
EPSILON = 1e-5


class AttentionLayer(nn.Module):
    """A pre-norm transformer layer (Xiong et al., 2020) over the cells of a map.

    The output layers are initialized to zero, so that the network initially equals the one without
    attention. Position encodings are added to queries, keys and values.

    Attributes:
      words: cells also attend to words.
      dtype: dtype of the computation.
    """

    words: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], position: Float[Array, "n c"], text: TextFeatures
    ) -> Float[Array, "b n c"]:
        """Maps cells `[B, N, C]`, with position encodings `[N, C]`, to `[B, N, C]`."""
        c = x.shape[-1]
        position = position.astype(self.dtype)

        def norm(name: str, x: jax.Array) -> jax.Array:
            y: jax.Array = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=name)(x)
            return y

        def attention(name: str) -> nn.MultiHeadAttention:
            return nn.MultiHeadAttention(
                HEADS,
                qkv_features=c,
                out_features=c,
                dtype=self.dtype,
                out_kernel_init=nn.initializers.zeros,
                force_fp32_for_softmax=True,
                name=name,
            )

        y = norm("cell_norm", x) + position
        x = x + attention("cells")(y)
        if self.words:
            y = norm("word_norm", x) + position
            x = x + attention("words")(y, text.words, mask=text.valid[:, None, None])
        hidden = nn.relu(nn.Dense(2 * c, dtype=self.dtype, name="expand")(norm("mlp_norm", x)))
        last = nn.Dense(c, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="reduce")
        mixed: jax.Array = x + last(hidden)
        return mixed


class CellAttention(nn.Module):
    """A stack of attention layers over the cells of a map.

    Attributes:
      layers: number of layers.
      words: cells also attend to words.
      dtype: dtype of the computation.
    """

    layers: int = 1
    words: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], text: TextFeatures, *, train: bool
    ) -> Float[Array, "b h w c"]:
        """Maps `[B, H, W, C]` to the same shape; `train` has no effect."""
        b, h, w, c = x.shape
        position = jnp.asarray(sine_position_encoding(h, w, c))
        cells = x.reshape(b, h * w, c)
        for i in range(self.layers):
            layer = AttentionLayer(self.words, dtype=self.dtype, name=f"layer{i}")
            cells = layer(cells, position, text)
        return cells.reshape(b, h, w, c)
