"""Depthwise convolution that is also fast on the CPU.

XLA's CPU backend computes a grouped convolution one channel at a time. Here it is the sum over the
kernel's taps of the shifted input times the tap's weights, which XLA fuses into one loop over
vectors of channels. On two cores, 7×7 over `[2, 56, 56, 96]` takes 8 ms instead of 164 ms, and both
gradients take less than 0.1 s instead of more than 1 s. GPUs and TPUs use
`jax.lax.conv_general_dilated`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from lts_jax.models.layers import Dtype

Padding = tuple[int, int]  # cells before and after each axis, the same for height and width


class DepthwiseConv(nn.Module):
    """Convolves each channel with its own kernel.

    Attributes:
      kernel: side of the square kernel, odd.
      stride: 1, or 2 with TensorFlow's "SAME" padding of an even size.
      use_bias: add a bias to each channel.
      dtype: dtype of the computation.
    """

    kernel: int
    stride: int = 1
    use_bias: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """Maps `[B, H, W, C]` to `[B, H/stride, W/stride, C]`."""
        c, k = x.shape[-1], self.kernel
        init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", (0, 1, 2), 3)
        kernel = self.param("kernel", init, (k, k, 1, c))
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        total = k - self.stride
        pads = (total // 2, total - total // 2)
        y: jax.Array = convolve_depthwise(x, kernel[:, :, 0], self.stride, pads)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros_init(), (c,)).astype(y.dtype)
        return y


# Within a larger program, jit traces each shape only once, even if many layers share it.
@partial(jax.jit, static_argnums=(2, 3))
def convolve_depthwise(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolves `[B, H, W, C]` with `[k, k, C]`, each channel with its own kernel."""
    y: jax.Array = _convolve(x, kernel, stride, padding)
    return y


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    y: jax.Array = lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_by_taps, stride=stride, padding=padding),
        default=partial(_by_xla, stride=stride, padding=padding),
    )
    return y


def _forward(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> Any:
    return _convolve(x, kernel, stride, padding), (x, kernel)


@partial(jax.jit, static_argnums=(0, 1))
def _backward(stride: int, padding: Padding, saved: Any, dy: jax.Array) -> Any:
    x, kernel = saved

    def on_cpu(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
        return _of_input(x, kernel, dy, stride, padding), _of_kernel(x, kernel, dy, stride, padding)

    def by_xla(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
        return jax.vjp(partial(_by_xla, stride=stride, padding=padding), x, kernel)[1](dy)

    return lax.platform_dependent(x, kernel, dy, cpu=on_cpu, default=by_xla)


_convolve.defvjp(_forward, _backward)


def _by_xla(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (stride, stride),
        (padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _by_taps(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    k = kernel.shape[0]
    # The barrier prevents fusing the padding into the loop, which would check it at each tap.
    padded = lax.optimization_barrier(jnp.pad(x, ((0, 0), padding, padding, (0, 0))))
    rows, columns = ((n - k) // stride + 1 for n in padded.shape[1:3])
    total = jnp.zeros((), jnp.float32)
    for i in range(k):
        for j in range(k):
            seen = padded[
                :,
                i : i + (rows - 1) * stride + 1 : stride,
                j : j + (columns - 1) * stride + 1 : stride,
            ]
            total = total + seen.astype(jnp.float32) * kernel[i, j].astype(jnp.float32)
    return total.astype(x.dtype)


def _of_input(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int, padding: Padding
) -> jax.Array:
    """Returns the input gradient: the flipped kernel over the outputs, dilated by the stride."""
    k = kernel.shape[0]
    if stride > 1:
        spread = (0, 0, stride - 1)
        dy = lax.pad(dy, jnp.zeros((), dy.dtype), ((0, 0, 0), spread, spread, (0, 0, 0)))
    ends = tuple(
        (k - 1 - padding[0], size - 1 + padding[0] - (n - 1))
        for size, n in zip(x.shape[1:3], dy.shape[1:3], strict=True)
    )
    dy = jnp.pad(dy, ((0, 0), *ends, (0, 0)))
    return _by_taps(dy, kernel[::-1, ::-1], 1, (0, 0))


def _of_kernel(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int, padding: Padding
) -> jax.Array:
    """Returns the kernel gradient `[k, k, C]`: accumulated by row, with column sums at the end."""
    k = kernel.shape[0]
    b, rows, columns, c = dy.shape
    x = lax.optimization_barrier(jnp.pad(x, ((0, 0), padding, padding, (0, 0))))

    def add_row(row: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        became = lax.dynamic_slice_in_dim(dy, row, 1, axis=1).astype(jnp.float32)
        seen = lax.dynamic_slice_in_dim(x, row * stride, k, axis=1).astype(jnp.float32)
        last = (columns - 1) * stride + 1
        return tuple(
            total + seen[:, :, j : j + last : stride] * became for j, total in enumerate(sums)
        )

    zeros = (jnp.zeros((b, k, columns, c), jnp.float32),) * k
    sums = lax.fori_loop(0, rows, add_row, zeros)
    by_column = [total.sum(axis=(0, 2)) for total in sums]  # each [k, C]
    return jnp.stack(by_column, axis=1).astype(kernel.dtype)
