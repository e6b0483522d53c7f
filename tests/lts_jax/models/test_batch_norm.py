"""BatchNorm with LeakyReLU equals Flax's, including the gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lts_jax.models.batch_norm import BatchNormAct
from tests.lts_jax.helpers.oracles import batch_norm_variables, relative_error


class Flax(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train):
        norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype)
        return nn.leaky_relu(norm(x), 0.1)


def run(layer, variables, x, cotangent, train):
    def apply(params, x):
        y, updates = layer.apply(
            variables | {"params": params}, x, train=train, mutable=["batch_stats"]
        )
        return (y.astype(jnp.float32) * cotangent).sum(), (y, updates["batch_stats"])

    value = jax.value_and_grad(apply, (0, 1), has_aux=True)
    (_, (y, stats)), gradients = jax.jit(value)(variables["params"], x)
    return y, stats, *gradients


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 1e-2)])
def test_as_flax(dtype, tolerance, train):
    rng = np.random.default_rng(0)
    x = jnp.asarray(3 + 2 * rng.normal(size=(3, 5, 4, 6)), dtype)
    cotangent = jnp.asarray(rng.normal(size=x.shape), dtype).astype(jnp.float32)
    ours = BatchNormAct(slope=0.1, epsilon=1e-5, momentum=0.9, dtype=dtype)
    variables = batch_norm_variables(ours.init(jax.random.key(0), x, train=False))
    # A negative scale reverses the sign of the activation's input; a scale of 0 stops the gradient.
    scale = np.array(variables["params"]["scale"])
    scale[:2] = -0.7, 0
    variables["params"]["scale"] = scale
    wrapped = {k: {"BatchNorm_0": v} for k, v in variables.items()}
    results = zip(
        jax.tree.leaves(run(ours, variables, x, cotangent, train)),
        jax.tree.leaves(run(Flax(dtype), wrapped, x, cotangent, train)),
        strict=True,
    )
    for mine, theirs in results:
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        assert relative_error(mine.astype(jnp.float32), theirs.astype(jnp.float32)) < tolerance


def test_stores_only_the_input():
    """The residuals are the input in its own dtype, and a few numbers per channel."""
    layer = BatchNormAct(slope=0.1, epsilon=1e-5, momentum=0.9, dtype=jnp.bfloat16)
    x = jnp.ones((2, 8, 8, 4), jnp.bfloat16)
    variables = layer.init(jax.random.key(0), x, train=False)

    def backward(params, x):
        def apply(params, x):
            return layer.apply(
                variables | {"params": params}, x, train=True, mutable=["batch_stats"]
            )[0]

        return jax.vjp(apply, params, x)[1]

    kept = jax.tree.leaves(jax.eval_shape(backward, variables["params"], x))
    assert [k.dtype for k in kept if k.size >= x.size] == [jnp.bfloat16]
    assert all(k.size == 4 for k in kept if k.size < x.size)
