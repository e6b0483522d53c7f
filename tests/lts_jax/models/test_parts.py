"""Fusion, locator and segmenter equal PyTorch implementations of the paper's equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.fusion import Fusion
from lts_jax.models.locator import Locator
from lts_jax.models.segmenter import Segmenter
from lts_jax.models.text_encoder import TextFeatures
from tests.lts_jax.helpers.oracles import (
    batch_norm_variables,
    randomize,
    relative_error,
    to_nchw,
    to_nhwc,
)

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


@pytest.mark.parametrize("use_text", [True, False])
def test_fusion_is_equations_5_to_7(use_text):
    rng = np.random.default_rng(0)
    taps = ImageFeatures(
        *(
            rng.normal(size=shape).astype(np.float32)
            for shape in ((2, 8, 12, 4), (2, 4, 6, 8), (2, 2, 3, 16))
        )
    )
    text = rng.normal(size=(2, 6)).astype(np.float32)
    model = Fusion(10, use_text)
    variables = batch_norm_variables(model.init(jax.random.key(0), taps, text, train=False))
    ours = model.apply(variables, taps, text, train=False).merge()

    x = conv_norm_act(to_nchw(taps.stride32), variables, "image32")
    assert ("text" in variables["params"]) == use_text
    if use_text:
        dense = variables["params"]["text"]
        f_text = tensor(text) @ tensor(dense["kernel"]) + tensor(dense["bias"])
        x = x * functional.leaky_relu(f_text, 0.1)[:, :, None, None]
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


def test_the_fusion_can_use_coordinates():
    taps = ImageFeatures(
        *(np.zeros((1, h, w, 3), np.float32) for h, w in ((8, 12), (4, 6), (2, 3)))
    )
    text = np.ones((1, 6), np.float32)
    model = Fusion(10, coordinates=True)
    variables = model.init(jax.random.key(0), taps, text, train=False)
    kernel = variables["params"]["image8"]["conv"]["kernel"]
    assert kernel.shape == (5, 5)  # three channels, and x and y
    fused = model.apply(variables, taps, text, train=False)
    x, y = np.meshgrid((np.arange(12) + 0.5) / 6 - 1, (np.arange(8) + 0.5) / 4 - 1)
    linear = np.stack([x, y], -1) @ np.asarray(kernel)[3:] / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(fused.fine[0], np.where(linear > 0, linear, 0.1 * linear), atol=1e-5)
    same = Fusion(10)
    blind = same.apply(
        same.init(jax.random.key(0), taps, text, train=False), taps, text, train=False
    )
    assert np.ptp(np.asarray(blind.fine), axis=(1, 2)).max() == 0


def make_text(rng, shape, lengths):
    """Returns word features that are zero at padding, and their mean."""
    valid = np.arange(shape[1]) < np.array(lengths)[:, None]
    words = rng.normal(size=shape).astype(np.float32) * valid[..., None]
    return TextFeatures(words, valid, words.sum(1) / np.array(lengths, np.float32)[:, None])


def respond(fused, kernels):
    """Applies each image's 1×1 convolution: `[B, h, w, C]` and `[B, K, C]` to `[B, K, h, w]`."""
    maps = [
        functional.conv2d(to_nchw(fused[i : i + 1]), kernels[i][:, :, None, None])[0]
        for i in range(len(fused))
    ]
    return torch.stack(maps)


def test_filter_is_a_dynamic_convolution():
    rng = np.random.default_rng(1)
    fused = rng.normal(size=(3, 6, 5, 8)).astype(np.float32)
    text = make_text(rng, (3, 5, 4), (5, 2, 1))
    model = Locator("filter")
    variables = model.init(jax.random.key(0), fused, text, train=False)
    ours = model.apply(variables, fused, text, train=False)
    kernels = tensor(text.sentence) @ tensor(variables["params"]["round0"]["kernel"]["kernel"])
    assert ours.shape == (3, 1, 6, 5)
    assert relative_error(ours, respond(fused, kernels[:, None]).numpy()) < 1e-5


def test_word_filter_regresses_the_responses_of_the_words():
    rng = np.random.default_rng(1)
    fused = rng.normal(size=(3, 6, 5, 8)).astype(np.float32)
    text = make_text(rng, (3, 5, 4), (5, 2, 1))
    model = Locator("word_filter")
    params = randomize(model.init(jax.random.key(0), fused, text, train=False))["params"]
    ours, seen = model.apply(
        {"params": params}, fused, text, train=False, mutable=["intermediates"]
    )
    of_round = params["round0"]
    responses = respond(fused, tensor(text.words) @ tensor(of_round["kernel"]["kernel"]))
    responses = responses * tensor(text.valid)[:, :, None, None]
    weights, bias = tensor(of_round["regress"]["kernel"])[:, 0], of_round["regress"]["bias"]
    theirs = torch.einsum("bthw,t->bhw", responses, weights) + tensor(bias)
    assert relative_error(ours[:, 0], theirs.numpy()) < 1e-5
    words = seen["intermediates"]["round0"]["words"][0]
    assert relative_error(words, responses.numpy()) < 1e-5
    assert not np.asarray(words)[2, 1:].any()  # padding


@pytest.mark.parametrize("prior", ["probability", "logits"])
@pytest.mark.parametrize("rounds", [2, 3])
def test_further_rounds_receive_the_previous_map(rounds, prior):
    rng = np.random.default_rng(3)
    fused = rng.normal(size=(2, 4, 5, 8)).astype(np.float32)
    text = make_text(rng, (2, 3, 4), (3, 1))
    model = Locator("filter", rounds, prior)
    variables = batch_norm_variables(model.init(jax.random.key(0), fused, text, train=False))
    ours = model.apply(variables, fused, text, train=False)
    x = to_nchw(fused)
    for i in range(rounds):
        weights = tensor(variables["params"][f"round{i}"]["kernel"]["kernel"])
        heatmap = torch.einsum("bchw,bc->bhw", x, tensor(text.sentence) @ weights)
        assert relative_error(ours[:, i], heatmap.numpy()) < 1e-5
        if i + 1 < rounds:
            seen = torch.sigmoid(heatmap) if prior == "probability" else heatmap
            x = torch.cat([to_nchw(fused), seen[:, None]], dim=1)
            x = conv_norm_act(x, variables, f"mix{i + 1}")


@pytest.mark.slow
@pytest.mark.parametrize("with_prior", [True, False])
def test_segmenter_is_aspp_and_a_transposed_convolution(with_prior):
    rng = np.random.default_rng(2)
    fused = rng.normal(size=(2, 13, 14, 6)).astype(np.float32)
    prior = rng.uniform(size=(2, 13, 14)).astype(np.float32) if with_prior else None
    model = Segmenter(5, rates=(2, 6, 12))
    variables = batch_norm_variables(model.init(jax.random.key(0), fused, prior, train=False))
    ours = model.apply(variables, fused, prior, train=False)

    seen = np.concatenate([fused, prior[..., None]], axis=-1) if with_prior else fused
    x = inputs = to_nchw(seen).requires_grad_()
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
    assert relative_error(ours, x[..., 0].detach().numpy()) < 1e-5

    x.sin().sum().backward()

    def loss(fused, prior):
        return jnp.sin(model.apply(variables, fused, prior, train=False)).sum()

    theirs = to_nhwc(inputs.grad)
    assert relative_error(jax.grad(loss)(fused, prior), theirs[..., :6]) < 1e-4
    if with_prior:
        assert relative_error(jax.grad(loss, argnums=1)(fused, prior), theirs[..., 6]) < 1e-4
