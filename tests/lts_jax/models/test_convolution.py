"""The network's convolution equals XLA's, including the gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lts_jax.models.convolution import convolve, convolve_map
from tests.lts_jax.helpers.oracles import relative_error


@pytest.mark.parametrize(
    ("size", "taps", "stride", "dilation"),
    [
        ((7, 10), 3, 1, 1),
        ((8, 6), 3, 2, 1),
        ((7, 9), 3, 2, 1),  # odd sizes
        ((7, 10), 3, 1, 2),
        ((7, 10), 3, 1, 6),  # many taps on the padding
        ((4, 13), 3, 1, 12),  # only one tap of some rows is inside
        ((9, 9), 5, 1, 2),
    ],
)
@pytest.mark.parametrize("channels", [5, 24])  # gradients by XLA and by taps
def test_as_xla(size, taps, stride, dilation, channels):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, *size, channels))
    kernel = jax.random.normal(keys[1], (taps, taps, channels, 4))
    pad = dilation * (taps // 2)

    def ours(x, kernel):
        return convolve(x, kernel, (stride,) * 2, ((pad, pad),) * 2, rhs_dilation=(dilation,) * 2)

    def xla(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride,) * 2,
            ((pad, pad),) * 2,
            rhs_dilation=(dilation,) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    out, gradients = jax.vjp(jax.jit(ours), x, kernel)
    expected, expected_gradients = jax.vjp(xla, x, kernel)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    dy = jax.random.normal(keys[2], out.shape)
    for ours_, theirs in zip(gradients(dy), expected_gradients(dy), strict=True):
        np.testing.assert_allclose(ours_, theirs, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_accumulated_in_float32():
    x = jnp.ones((1, 4, 300, 24), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 24, 2), jnp.bfloat16)

    def total(kernel):
        return convolve(x, kernel, (1, 1), ((1, 1),) * 2, rhs_dilation=(1, 1)).sum()

    gradient = jax.grad(total)(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert float(gradient[1, 1, 0, 0]) == float(jnp.bfloat16(1200))  # bfloat16 would stop at 256


@pytest.mark.parametrize(("size", "dilation"), [((7, 10), 1), ((9, 6), 3), ((4, 5), 6)])
def test_a_single_channel_equals_the_general_case(size, dilation):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, *size, 1))
    kernel = jax.random.normal(keys[1], (3, 3, 1, 5))
    cotangent = jax.random.normal(keys[2], (2, *size, 5))
    pad = ((dilation, dilation),) * 2

    def general(x, kernel):
        return convolve(x, kernel, (1, 1), pad, rhs_dilation=(dilation,) * 2)

    ours, vjp = jax.vjp(lambda x, kernel: convolve_map(x, kernel, dilation), x, kernel)
    theirs, their_vjp = jax.vjp(general, x, kernel)
    pairs = zip((ours, *vjp(cotangent)), (theirs, *their_vjp(cotangent)), strict=True)
    for mine, other in pairs:
        assert relative_error(mine, other) < 1e-5
