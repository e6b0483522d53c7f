"""Compares the count with XLA's analysis of the compiled program and with manual counts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from benchmarks import flops
from lts_jax.models import LTS
from lts_jax.models.darknet53 import Darknet53
from lts_jax.state import train_state
from tests.lts_jax.helpers.tiny import TINY


def of_xla(function, *args):
    return jax.jit(function).lower(*args).cost_analysis()["flops"]


@pytest.mark.parametrize("dilation", [1, 2, 6])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_agrees_with_xla(stride, dilation):
    conv = nn.Conv(5, (3, 3), stride, padding=dilation, kernel_dilation=dilation, use_bias=False)
    x = jnp.ones((2, 9, 12, 4))
    params = conv.init(jax.random.key(0), x)
    assert flops.count(conv.apply, params, x) == of_xla(conv.apply, params, x)


def test_the_gradients_of_a_convolution_too():
    conv = nn.Conv(5, (3, 3), 2, padding=1, use_bias=False)
    x = jnp.ones((2, 8, 12, 4))
    params = conv.init(jax.random.key(0), x)

    def gradients(params, x):  # of a linear function: the outputs are not needed
        return jax.grad(lambda p, x: conv.apply(p, x).sum(), argnums=(0, 1))(params, x)

    assert flops.count(gradients, params, x) >= 2 * flops.count(conv.apply, params, x)


def test_products_loops_and_remat_by_hand():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 4))
    assert flops.count(jnp.dot, a, b) == 2 * 3 * 4 * 4

    @jax.checkpoint
    def step(x, _):
        return x @ b, None

    assert flops.count(lambda x: jax.lax.scan(step, x, length=7)[0], a) == 7 * 2 * 3 * 4 * 4


def test_darknet53_is_the_published_network():
    """18.7 billion operations at 256 × 256 (Redmon and Farhadi, 2018, Table 2), with padding.

    At 16 times the side, padding is negligible and there are 256 times as many operations.
    """
    model = Darknet53(neck=False)
    image = jax.ShapeDtypeStruct((1, 4096, 4096, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    counted = flops.count(lambda v, x: model.apply(v, x, train=False), variables, image)
    assert counted / 256 == pytest.approx(
        18.7e9, rel=0.015
    )  # the published number includes a classifier


@pytest.mark.slow
def test_network_agrees_with_xla_except_for_elementwise_operations():
    model = LTS(vocab_size=9, **TINY)
    optimizer = optax.adam(1e-3)
    state = jax.eval_shape(lambda: train_state.init_state(model, optimizer, 0, 64, 5))
    image = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    tokens = jax.ShapeDtypeStruct((2, 5), np.int32)
    length = jax.ShapeDtypeStruct((2,), np.int32)

    def forward(state, *args):
        return model.apply(train_state.variables_of(state), *args, train=False)

    counted = flops.count(forward, state, image, tokens, length)
    analysis = of_xla(forward, state, image, tokens, length)
    assert counted < analysis < 1.2 * counted  # in a tiny network, the rest is a larger share
