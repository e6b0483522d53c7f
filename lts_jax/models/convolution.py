"""Convolution with faster gradients on the CPU.

A 3×3 convolution is a sum over its nine taps of a matrix product with the shifted input. On CPUs,
XLA's convolution takes 1.4 to 5 times as long as these nine products for the weight gradient. The
same holds for the input gradient of convolutions with a large dilation: many taps fall on the
padding, so that the shifted inputs are smaller. docs/performance.md has the measurements. On GPUs
and TPUs, `jax.lax.conv_general_dilated` is used.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

_NUMBERS = ("NHWC", "HWIO", "NHWC")
_ROW_MAJOR = Layout((0, 1, 2, 3))
_ENOUGH_CHANNELS = 24
"""Minimum number of input channels; for fewer, XLA's convolution is faster."""


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    rhs_dilation: Sequence[int],
    **_: Any,
) -> jax.Array:
    """Convolves `[B, H, W, C]` with `[k, k, C, F]`; has the interface that `flax.linen.Conv` needs.

    Args:
      x: the input.
      kernel: the kernel; k must be odd.
      window_strides: `(s, s)`.
      padding: `((p, p), (p, p))` with p = dilation · (k − 1) / 2.
      rhs_dilation: `(dilation, dilation)`.
    """
    return _convolve(x, kernel, window_strides[0], rhs_dilation[0])


def multiply_map(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies a single channel: `[B, H, W, 1]` with `[1, F]`.

    Its gradients are sums. As matrix products with a single column they would fail in XLA's Triton
    compiler with "Reshape input and output shapes must be the same".
    """
    return (x.astype(jnp.float32) * kernel[0].astype(jnp.float32)).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_map(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """Convolves a single channel: `[B, H, W, 1]` with `[k, k, 1, F]` at stride 1.

    Computed as a sum of products with scalars, which XLA fuses with the following addition. A
    convolution would write an intermediate result of F channels.
    """
    wide = kernel.astype(jnp.float32)
    taps = zip(
        _shifted(x, kernel.shape[0], dilation), wide.reshape(-1, wide.shape[-1]), strict=True
    )
    total: jax.Array = sum(seen.astype(jnp.float32) * tap for seen, tap in taps)
    return total.astype(x.dtype)


def _map_backward(dilation: int, saved: Any, dy: jax.Array) -> Any:
    x, kernel = saved
    k, features = kernel.shape[0], kernel.shape[-1]
    seen = jnp.concatenate(_shifted(x, k, dilation), axis=-1).reshape(-1, k * k)
    flat = dy.reshape(-1, features)
    of_kernel = jnp.matmul(seen.T, flat, preferred_element_type=jnp.float32)
    # Transposed access pattern: the input gradient collects the outputs that read each input.
    asked = (dy @ kernel.reshape(-1, features).T)[..., ::-1]
    parts = [of_tap[..., tap : tap + 1] for tap, of_tap in enumerate(_shifted(asked, k, dilation))]
    of_x: jax.Array = sum(part.astype(jnp.float32) for part in parts)  # type: ignore
    return of_x.astype(x.dtype), of_kernel.reshape(kernel.shape).astype(kernel.dtype)


convolve_map.defvjp(
    lambda x, kernel, dilation: (convolve_map(x, kernel, dilation), (x, kernel)), _map_backward
)


def _shifted(x: jax.Array, taps: int, dilation: int) -> list[jax.Array]:
    """Returns the input of each tap: x shifted, padded with zeros."""
    h, w = x.shape[1:3]
    pad = dilation * (taps // 2)
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    shifts = [(i * dilation, j * dilation) for i in range(taps) for j in range(taps)]
    return [x[:, i : i + h, j : j + w] for i, j in shifts]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> jax.Array:
    return _by_xla(x, kernel, stride, dilation)


def _forward(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> Any:
    return _convolve(x, kernel, stride, dilation), (x, kernel)


def _backward(stride: int, dilation: int, saved: Any, dy: jax.Array) -> Any:
    x, kernel = saved

    def of_input(kernel: jax.Array, dy: jax.Array) -> Any:
        return jax.linear_transpose(lambda x: _by_xla(x, kernel, stride, dilation), x)(dy)[0]

    def by_xla(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
        of_kernel = jax.linear_transpose(lambda k: _by_xla(x, k, stride, dilation), kernel)
        # Otherwise Adam's moments and the parameter get the layout of cuDNN's gradient, which
        # causes copies.
        return of_input(kernel, dy), with_layout_constraint(of_kernel(dy)[0], _ROW_MAJOR)

    def by_taps(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
        dx = (
            of_input(kernel, dy)
            if dilation == 1  # otherwise convolve the outputs with the flipped kernel
            else _by_taps(dy, kernel[::-1, ::-1].swapaxes(2, 3), dilation)
        )
        return dx, _of_kernel(x, dy, kernel, stride, dilation)

    on_cpu = by_taps if x.shape[-1] >= _ENOUGH_CHANNELS else by_xla
    return lax.platform_dependent(x, kernel, dy, cpu=on_cpu, default=by_xla)


_convolve.defvjp(_forward, _backward)


def _by_xla(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> jax.Array:
    pad = dilation * (kernel.shape[0] // 2)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_NUMBERS,
    )


def _by_taps(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """Stride 1: sums each tap's product, without the taps that fall on the padding."""
    out = jnp.zeros((*x.shape[:3], kernel.shape[-1]), jnp.float32)
    for i, j, inputs, outputs in _taps(x.shape, kernel.shape[0], 1, dilation):
        product = jnp.matmul(x[inputs], kernel[i, j], preferred_element_type=jnp.float32)
        out = out.at[outputs].add(product)
    return out.astype(x.dtype)


def _of_kernel(
    x: jax.Array, dy: jax.Array, kernel: jax.Array, stride: int, dilation: int
) -> jax.Array:
    """Returns the kernel gradient `[k, k, C, F]`: each tap's inputs times its output gradients."""
    parts = []
    for _, _, inputs, outputs in _taps(x.shape, kernel.shape[0], stride, dilation):
        seen, became = (a.reshape(-1, a.shape[-1]) for a in (x[inputs], dy[outputs]))
        parts.append(jnp.matmul(seen.T, became, preferred_element_type=jnp.float32))
    return jnp.stack(parts).reshape(kernel.shape).astype(kernel.dtype)


def _taps(
    shape: Sequence[int], taps: int, stride: int, dilation: int
) -> Iterator[tuple[int, int, Any, Any]]:
    """Yields row and column of each tap, the inputs it reads and the outputs they contribute to."""
    _, height, width, _ = shape
    rows, columns = (_spans(n, taps, stride, dilation) for n in (height, width))
    for i, (rows_in, rows_out) in enumerate(rows):
        for j, (columns_in, columns_out) in enumerate(columns):
            yield i, j, (slice(None), rows_in, columns_in), (slice(None), rows_out, columns_out)


def _spans(size: int, taps: int, stride: int, dilation: int) -> list[tuple[slice, slice]]:
    """Returns for each tap along an axis the inputs it reads in the image, and their outputs."""
    spans = []
    for tap in range(taps):
        shift = dilation * (tap - taps // 2)  # output o reads input o · stride + shift
        first = max(0, -(shift // stride))
        last = min(-(-size // stride) - 1, (size - 1 - shift) // stride)
        begin = first * stride + shift
        inputs = slice(begin, begin + (last - first) * stride + 1, stride)
        # A tap that falls completely on the padding reads nothing.
        spans.append((inputs, slice(first, last + 1)) if last >= first else (slice(0), slice(0)))
    return spans
