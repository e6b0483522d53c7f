import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.models.layers import (
    ConvNormAct,
    ConvTranspose2x,
    _doubled,
    _doubled_by_phases,
    upsample_nearest,
)
from tests.lts_jax.helpers.oracles import batch_norm_variables, relative_error, to_nchw, to_nhwc

torch = pytest.importorskip("torch", reason="torch is the oracle of the layers")


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (3, 1, 6)]
)
def test_conv_norm_act_equals_torch(kernel, stride, dilation, train):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 14, 10, 5)).astype(np.float32)
    layer = ConvNormAct(7, kernel, stride, dilation)
    variables = batch_norm_variables(layer.init(jax.random.key(0), x, train=False))
    ours, updates = layer.apply(variables, x, train=train, mutable=["batch_stats"])

    conv = torch.nn.Conv2d(
        5, 7, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation, bias=False
    )
    weights = np.array(variables["params"]["conv"]["kernel"]).reshape(kernel, kernel, 5, 7)
    conv.weight.data = torch.tensor(weights.transpose(3, 2, 0, 1))
    norm = torch.nn.BatchNorm2d(7, eps=1e-5, momentum=0.1)
    norm.weight.data = torch.tensor(np.array(variables["params"]["norm"]["scale"]))
    norm.bias.data = torch.tensor(np.array(variables["params"]["norm"]["bias"]))
    norm.running_mean = torch.tensor(np.array(variables["batch_stats"]["norm"]["mean"]))
    norm.running_var = torch.tensor(np.array(variables["batch_stats"]["norm"]["var"]))
    norm.train(train)
    theirs = torch.nn.functional.leaky_relu(norm(conv(to_nchw(x))), 0.1)

    assert relative_error(ours, to_nhwc(theirs)) < 1e-5
    if train:
        mean = updates["batch_stats"]["norm"]["mean"]
        assert relative_error(mean, norm.running_mean.numpy()) < 1e-5


def test_transposed_convolution_equals_torch():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 5, 7, 6)).astype(np.float32)
    layer = ConvTranspose2x(4)
    variables = layer.init(jax.random.key(0), x)
    theirs = torch.nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, bias=False)
    kernel = np.array(variables["params"]["kernel"])
    theirs.weight.data = torch.tensor(kernel.transpose(2, 3, 0, 1).copy())
    x_torch = to_nchw(x).requires_grad_()
    out = theirs(x_torch)
    ours = layer.apply(variables, x)
    assert ours.shape == (2, 10, 14, 4)
    assert relative_error(ours, to_nhwc(out)) < 1e-5

    cotangent = rng.normal(size=ours.shape).astype(np.float32)
    out.backward(to_nchw(cotangent))
    _, vjp = jax.vjp(layer.apply, variables, jnp.asarray(x))
    grads, grad_x = vjp(jnp.asarray(cotangent))
    assert relative_error(grad_x, to_nhwc(x_torch.grad)) < 1e-5
    grad_kernel = theirs.weight.grad.numpy().transpose(2, 3, 0, 1)
    assert relative_error(grads["params"]["kernel"], grad_kernel) < 1e-5


def test_transposed_convolution_of_accelerators():
    """Tested directly, as the network tests run on the CPU, which uses another implementation."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 5, 6, 3))
    kernel = jax.random.normal(keys[1], (4, 4, 3, 7))
    cotangent = jax.random.normal(keys[2], (2, 10, 12, 7))
    ours, vjp = jax.vjp(_doubled, x, kernel)
    on_cpu, their_vjp = jax.vjp(_doubled_by_phases, x, kernel)
    for a, b in zip((ours, *vjp(cotangent)), (on_cpu, *their_vjp(cotangent)), strict=True):
        assert relative_error(a, b) < 1e-5


def test_upsample_nearest_equals_torch():
    x = np.random.default_rng(2).normal(size=(2, 3, 5, 4)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(to_nchw(x), scale_factor=2, mode="nearest")
    np.testing.assert_array_equal(upsample_nearest(jnp.asarray(x)), to_nhwc(theirs))
