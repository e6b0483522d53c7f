"""Fusion, locator and segmenter against torch's functions, written from the paper's equations."""

import jax
import numpy as np
import pytest

from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.fusion import Fusion
from lts_jax.models.locator import FilterLocator
from lts_jax.models.segmenter import Segmenter

from oracles import batch_norm_variables, relative_error, to_nchw, to_nhwc

torch = pytest.importorskip("torch", reason="torch is the oracle of the parts")
functional = torch.nn.functional


def tensor(x):
    return torch.tensor(np.array(x))


def conv_norm_act(x, variables, name, dilation=1):
    """1×1 or 3×3 convolution, BatchNorm with running statistics, LeakyReLU 0.1; NCHW."""
    params, stats = variables["params"][name], variables["batch_stats"][name]
    kernel = np.array(params["conv"]["kernel"])
    if kernel.ndim == 2:
        kernel = kernel[None, None]
    weight = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
    x = functional.conv2d(x, weight, padding=dilation * (kernel.shape[0] // 2), dilation=dilation)
    norm = params["norm"]
    x = functional.batch_norm(
        x,
        tensor(stats["norm"]["mean"]),
        tensor(stats["norm"]["var"]),
        tensor(norm["scale"]),
        tensor(norm["bias"]),
        eps=1e-5,
    )
    return functional.leaky_relu(x, 0.1)


def test_fusion_is_equations_5_to_7():
    rng = np.random.default_rng(0)
    taps = ImageFeatures(
        *(
            rng.normal(size=shape).astype(np.float32)
            for shape in ((2, 8, 12, 4), (2, 4, 6, 8), (2, 2, 3, 16))
        )
    )
    text = rng.normal(size=(2, 6)).astype(np.float32)
    model = Fusion(10)
    variables = batch_norm_variables(model.init(jax.random.key(0), taps, text, train=False))
    ours = model.apply(variables, taps, text, train=False)

    dense = variables["params"]["text"]
    f_text = functional.leaky_relu(
        tensor(text) @ tensor(dense["kernel"]) + tensor(dense["bias"]), 0.1
    )
    x = conv_norm_act(to_nchw(taps.stride32), variables, "image32") * f_text[:, :, None, None]
    for stride, tap in ((16, taps.stride16), (8, taps.stride8)):
        up = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = torch.cat(
            [
                conv_norm_act(up, variables, f"up{stride}"),
                conv_norm_act(to_nchw(tap), variables, f"image{stride}"),
            ],
            dim=1,
        )
    assert ours.shape == (2, 8, 12, 10)
    assert relative_error(ours, to_nhwc(x)) < 1e-5


def test_filter_is_a_dynamic_convolution():
    rng = np.random.default_rng(1)
    fused = rng.normal(size=(3, 6, 5, 8)).astype(np.float32)
    text = rng.normal(size=(3, 4)).astype(np.float32)
    model = FilterLocator()
    variables = model.init(jax.random.key(0), fused, text)
    ours = model.apply(variables, fused, text)
    kernels = tensor(text) @ tensor(variables["params"]["kernel"]["kernel"])
    theirs = [
        functional.conv2d(to_nchw(fused[i : i + 1]), kernels[i][None, :, None, None])[0]
        for i in range(3)
    ]
    assert ours.shape == (3, 1, 6, 5)
    assert relative_error(ours, torch.stack(theirs).numpy()) < 1e-5


def test_segmenter_is_aspp_and_a_transposed_convolution():
    rng = np.random.default_rng(2)
    fused = rng.normal(size=(2, 13, 14, 6)).astype(np.float32)
    prior = rng.uniform(size=(2, 13, 14)).astype(np.float32)
    model = Segmenter(5, rates=(2, 6, 12))
    variables = batch_norm_variables(model.init(jax.random.key(0), fused, prior, train=False))
    ours = model.apply(variables, fused, prior, train=False)

    x = to_nchw(np.concatenate([fused, prior[..., None]], axis=-1))
    pooled = conv_norm_act(functional.adaptive_avg_pool2d(x, 1), variables, "aspp_pool")
    branches = [
        conv_norm_act(x, variables, "aspp_1x1"),
        *(conv_norm_act(x, variables, f"aspp_rate{rate}", rate) for rate in (2, 6, 12)),
        pooled.expand(-1, -1, 13, 14),
    ]
    x = conv_norm_act(torch.cat(branches, dim=1), variables, "project")
    kernel = np.array(variables["params"]["upsample"]["kernel"]).transpose(2, 3, 0, 1)
    x = functional.conv_transpose2d(x, torch.tensor(kernel.copy()), stride=2, padding=1)
    norm, stats = variables["params"]["upsample_norm"], variables["batch_stats"]["upsample_norm"]
    x = functional.batch_norm(
        x, *(tensor(v) for v in (stats["mean"], stats["var"], norm["scale"], norm["bias"]))
    )
    x = functional.leaky_relu(x, 0.1)
    dense = variables["params"]["mask"]
    x = x.permute(0, 2, 3, 1) @ tensor(dense["kernel"]) + tensor(dense["bias"])
    assert ours.shape == (2, 26, 28)
    assert relative_error(ours, x[..., 0].numpy()) < 1e-5
