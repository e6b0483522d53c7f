"""Swin Transformer (Liu et al., ICCV 2021)."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from lts_jax.models.backbones.common import PatchConv, drop_path, drop_rates
from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.layers import IMAGENET, Dtype, normalize, rematerialized

_HEAD = 32  # channels of an attention head
_layer_norm = partial(nn.LayerNorm, epsilon=1e-5)


class WindowAttention(nn.Module):
    """Self-attention within each window, with a relative position bias.

    Attributes:
      window: side of a window in cells.
      dtype: dtype of the computation.
    """

    window: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n l c"], regions: Int[np.ndarray, "n l"] | None
    ) -> Float[Array, "b n l c"]:
        """Maps `[B, windows, window², C]` to the same shape.

        Args:
          x: cells, grouped by window.
          regions: region numbers `[windows, window²]`; cells attend only to cells of their region.
            None: to all cells of the window.
        """
        *_, c = x.shape
        heads = max(1, c // _HEAD)
        dense = partial(nn.DenseGeneral, (heads, c // heads), dtype=self.dtype)
        query, key, value = (dense(name=name)(x) for name in ("query", "key", "value"))
        query = query * query.shape[-1] ** -0.5
        scores = jnp.einsum("bnqhd,bnkhd->bnhqk", query, key, preferred_element_type=jnp.float32)
        offsets = (2 * self.window - 1) ** 2
        table = self.param("bias_table", nn.initializers.truncated_normal(0.02), (offsets, heads))
        scores += table[table_rows(self.window)].transpose(2, 0, 1)
        if regions is not None:
            apart = jnp.array(regions)[:, :, None] != jnp.array(regions)[:, None, :]
            scores += jnp.where(apart, -100.0, 0.0)[:, None]
        weights = jax.nn.softmax(scores).astype(value.dtype)
        y = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, value)
        out: jax.Array = nn.DenseGeneral(c, axis=(-2, -1), dtype=self.dtype, name="out")(y)
        return out


class Block(nn.Module):
    """Two residual branches: LayerNorm and window attention, then LayerNorm and MLP.

    Attributes:
      window: side of a window in cells.
      shifted: shift the windows by half their side.
      drop_path: stochastic depth rate.
      dtype: dtype of the computation.
    """

    window: int
    shifted: bool
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """Maps `[B, H, W, C]` to the same shape; incomplete windows are zero-padded."""
        b, h, w, c = x.shape
        n = self.window
        # An axis with a single window is not shifted, as in the published code.
        shift = n // 2 if self.shifted and min(h, w) > n else 0
        rows, columns = -(-h // n), -(-w // n)
        norm = partial(_layer_norm, dtype=self.dtype)
        y = norm(name="attention_norm")(x)
        y = jnp.pad(y, ((0, 0), (0, rows * n - h), (0, columns * n - w), (0, 0)))
        if shift:
            y = jnp.roll(y, (-shift, -shift), (1, 2))
        y = y.reshape(b, rows, n, columns, n, c).transpose(0, 1, 3, 2, 4, 5)
        attention = WindowAttention(n, self.dtype, name="attention")
        numbers = regions(rows, columns, n, shift) if shift else None
        y = attention(y.reshape(b, rows * columns, n * n, c), numbers)
        y = y.reshape(b, rows, columns, n, n, c).transpose(0, 1, 3, 2, 4, 5)
        y = y.reshape(b, rows * n, columns * n, c)
        if shift:
            y = jnp.roll(y, (shift, shift), (1, 2))
        x = x + drop_path(y[:, :h, :w], self.drop_path, train=train)
        y = norm(name="mlp_norm")(x)
        y = nn.gelu(nn.Dense(4 * c, dtype=self.dtype, name="expand")(y), approximate=False)
        y = nn.Dense(c, dtype=self.dtype, name="reduce")(y)
        return x + drop_path(y, self.drop_path, train=train)


class Swin(nn.Module):
    """Swin without its classifier, with a LayerNorm on each output, as in dense prediction.

    Attributes:
      width: channels of the first stage; each further stage has twice as many.
      stage_sizes: blocks in each of the four stages.
      window: side of an attention window in cells.
      drop_path: stochastic depth rate of the last block.
      dtype: dtype of the computation.
      remat: in training, store only each block's input for the backward pass.
    """

    width: int = 96
    stage_sizes: Sequence[int] = (2, 2, 6, 2)
    window: int = 7
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> ImageFeatures:
        """Encodes `[B, H, W, 3]` RGB in [0, 1]; H and W must be multiples of 32."""
        run = rematerialized(self.remat and train)
        norm = partial(_layer_norm, dtype=self.dtype)
        x = PatchConv(self.width, 4, dtype=self.dtype, name="stem")(normalize(image, *IMAGENET))
        x = norm(name="stem_norm")(x)
        taps = []
        for i, rates in enumerate(drop_rates(self.drop_path, self.stage_sizes)):
            if i:
                x = norm(name=f"stage{i}_down_norm")(_merge_patches(x))
                reduce = nn.Dense(
                    self.width * 2**i, use_bias=False, dtype=self.dtype, name=f"stage{i}_down"
                )
                x = reduce(x)
            for j, rate in enumerate(rates):
                block = Block(self.window, j % 2 == 1, rate, self.dtype, name=f"stage{i}_block{j}")
                x = run(block, x, train=train)
            if i:
                taps.append(norm(name=f"tap{4 * 2**i}_norm")(x))
        return ImageFeatures(*taps)


def _merge_patches(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 4*c"]:
    """Concatenates the four cells of each 2×2 patch: upper left and lower left first."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 4, 2, 5)
    return x.reshape(b, h // 2, w // 2, 4 * c)


def table_rows(window: int) -> Int[np.ndarray, "l l"]:
    """Returns the row of the bias table for each pair of cells of a window."""
    at = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    rows, columns = at[:, :, None] - at[:, None, :] + window - 1
    table: Int[np.ndarray, "l l"] = rows * (2 * window - 1) + columns
    return table


def regions(rows: int, columns: int, window: int, shift: int) -> Int[np.ndarray, "n l"]:
    """Numbers the regions that a shift combines in one window."""

    def along(windows: int) -> Int[np.ndarray, " n"]:
        at = np.arange(windows * window)
        last = windows * window - window
        return (at >= last).astype(int) + (at >= last + window - shift)

    numbers: Int[np.ndarray, ...] = 3 * along(rows)[:, None] + along(columns)
    numbers = numbers.reshape(rows, window, columns, window).transpose(0, 2, 1, 3)
    return numbers.reshape(rows * columns, window * window)
