"""Every registered backbone: output levels, precision, rematerialization, stochastic depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lts_jax.models.backbones import BACKBONES
from lts_jax.models.layers import Dtype
from tests.lts_jax.helpers.drawn import draw_variables
from tests.lts_jax.helpers.oracles import relative_error

STAGES = {
    "darknet53": (1, 1, 1, 1, 1),
    "efficientnet": (1, 1, 1, 1, 1, 2, 1),
    "convnext": (1, 1, 1, 1),
    "swin": (1, 2, 1, 1),
    "resnet": (1, 1, 1, 1),
}
ONE_EACH = ["efficientnet_lite0", "convnext_tiny", "swin_tiny", "resnet50_dilated"]


def narrow(name: str, dtype: Dtype = jnp.float32, **options):
    spec = BACKBONES[name]
    return spec.make(4, STAGES[spec.family], dtype=dtype, **options)


@pytest.mark.parametrize("name", BACKBONES)
def test_taps(name):
    strides = (8, 8, 8) if name.endswith("dilated") else (8, 16, 32)
    model = narrow(name)
    image = jax.ShapeDtypeStruct((2, 96, 64, 3), jnp.float32)
    taps, _ = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False), image
    )
    for tap, stride in zip(taps, strides, strict=True):
        assert tap.shape[:3] == (2, 96 // stride, 64 // stride)
    with pytest.raises(ValueError, match=r"multiples of 32.*40"):
        jax.eval_shape(
            lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 40, 3)), train=False)
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_EACH)
def test_remat_and_bfloat16_preserve_gradients_and_parameters(name):
    image = np.random.default_rng(0).uniform(0, 1, (2, 64, 64, 3)).astype(np.float32)
    plain = narrow(name)
    variables = draw_variables(
        jax.eval_shape(lambda: plain.init(jax.random.key(0), image, train=False))
    )

    def gradients(model):
        def loss(params):
            taps, _ = model.apply(
                variables | {"params": params}, image, train=True, mutable=["batch_stats"]
            )
            return sum(jnp.square(tap).mean() for tap in taps)

        return jax.jit(jax.grad(loss))(variables["params"])

    ours, again = gradients(plain), gradients(narrow(name, remat=True))
    for path, value in flatten_dict(ours).items():
        np.testing.assert_allclose(value, flatten_dict(again)[path], rtol=1e-3, atol=1e-5)
    low = narrow(name, jnp.bfloat16)
    shapes = jax.eval_shape(lambda: low.init(jax.random.key(0), image, train=False))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    exact, rounded = (
        jax.jit(lambda x, m=m: m.apply(variables, x, train=False))(image) for m in (plain, low)
    )
    for a, b in zip(exact, rounded, strict=True):
        assert b.dtype == jnp.bfloat16
        assert relative_error(b.astype(jnp.float32), a) <= 0.05


@pytest.mark.slow
def test_stochastic_depth_acts_only_in_training():
    model = narrow("convnext_tiny", drop_path=0.9)
    image = np.random.default_rng(0).uniform(0, 1, (8, 32, 32, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), image, train=False)
    scaled = jax.tree_util.tree_map_with_path(
        lambda path, x: x * 1e6 if path[-1].key == "scale" and x.max() < 1e-3 else x, variables
    )

    @jax.jit
    def train(key):
        return model.apply(scaled, image, train=True, rngs={"dropout": key}).stride32

    one, two, same = (train(jax.random.key(n)) for n in (0, 1, 0))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - two).max() > 0.1
    model.apply(scaled, image, train=False)  # needs no random numbers


def test_backbones_without_stochastic_depth_refuse_it():
    for name in ("darknet53", "resnet50"):
        with pytest.raises(ValueError, match="no stochastic depth"):
            BACKBONES[name].make(dtype=jnp.float32, drop_path=0.1)
