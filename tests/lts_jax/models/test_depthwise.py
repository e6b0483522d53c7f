"""Depthwise convolution equals XLA's grouped convolution, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.models import depthwise
from lts_jax.models.depthwise import DepthwiseConv, convolve_depthwise
from tests.lts_jax.helpers.oracles import relative_error

CASES = [(3, 1, (1, 1)), (5, 1, (2, 2)), (7, 1, (3, 3)), (3, 2, (0, 1)), (5, 2, (1, 2))]


@pytest.mark.parametrize(("k", "stride", "padding"), CASES)
def test_equals_the_grouped_convolution(k, stride, padding):
    rng = np.random.default_rng(0)
    x, kernel = (jnp.array(rng.normal(size=s), jnp.float32) for s in ((2, 12, 10, 8), (k, k, 8)))
    weights = jnp.array(rng.normal(size=(2, 12 // stride, 10 // stride, 8)), jnp.float32)

    def gradients(convolve):
        def loss(x, kernel):
            y = convolve(x, kernel, stride, padding)
            return (y * weights).sum(), y

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, kernel)

    ours, theirs = gradients(convolve_depthwise), gradients(depthwise._by_xla)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert relative_error(a, b) <= 1e-6


def test_bfloat16_is_accumulated_in_float32():
    x = jnp.array(np.random.default_rng(1).normal(size=(1, 8, 8, 4)), jnp.bfloat16)
    model = DepthwiseConv(7, dtype=jnp.bfloat16)
    variables = model.init(jax.random.key(0), x)
    low, high = model.apply(variables, x), DepthwiseConv(7).apply(variables, x.astype(jnp.float32))
    assert low.dtype == jnp.bfloat16
    assert relative_error(low.astype(jnp.float32), high) <= 4e-3  # bfloat16's rounding error
