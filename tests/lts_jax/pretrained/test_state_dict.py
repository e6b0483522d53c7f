"""State dicts of several projects give the same backbone; other networks are rejected."""

import jax
import numpy as np
import pytest

from lts_jax.errors import ConfigError
from lts_jax.pretrained.backbone import load_backbone
from tests.lts_jax.pretrained.conftest import NETWORK
from tests.lts_jax.pretrained.torch_models import (
    NAMINGS,
    assert_equal,
    by_mmdetection,
    save,
    state_dict,
    torch,
)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("names", NAMINGS)
def test_every_naming_gives_the_same_network(arrays, reference, names, suffix, tmp_path):
    path = save(state_dict(arrays, names), tmp_path / f"x{suffix}")
    backbone = load_backbone(path, NETWORK)
    assert_equal(backbone.variables, reference.variables)
    assert backbone.source["heads"] == 255 and "Make sure" in backbone.source["warning"]
    assert backbone.source["skipped"] == 2
    assert len(backbone.source["sha256"]) == 64 and backbone.source["file"] == str(path)


@pytest.mark.parametrize("key", ["state_dict", "model", "net"])
def test_nested_channels_last_and_parameters(arrays, reference, key, tmp_path):
    state = {
        k: torch.nn.Parameter(v.to(memory_format=torch.channels_last)) if v.ndim == 4 else v
        for k, v in state_dict(arrays, by_mmdetection).items()
    }
    path = save({"epoch": 3, key: state, "lr": [0.1, None, True]}, tmp_path / "x.pth")
    assert_equal(load_backbone(path, NETWORK).variables, reference.variables)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_other_precisions_become_float32(arrays, reference, suffix, tmp_path):
    state = state_dict(arrays, by_mmdetection)
    for dtype, numpy in ((torch.float16, np.float16), (torch.float64, np.float32)):
        path = save({k: v.to(dtype) for k, v in state.items()}, tmp_path / f"x{suffix}")
        expected = jax.tree.map(
            lambda x, t=numpy: x.astype(t).astype(np.float32), reference.variables
        )
        assert_equal(load_backbone(path, NETWORK).variables, expected)
    path = save({k: v.bfloat16() for k, v in state.items()}, tmp_path / f"x{suffix}")
    got = load_backbone(path, NETWORK).variables["params"]["stem"]["norm"]["scale"]
    expected = torch.tensor(arrays["stem"]["scale"]).bfloat16().float().numpy()
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.float32


def without(state, *parts):
    return {k: v for k, v in state.items() if not any(p in k for p in parts)}


def renamed(state, old, new):
    return {k.replace(old, new): v for k, v in state.items()}


BRIDGE, STAGE3 = "bbox_head.convs_bridge.0", "backbone.conv_res_block3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "backbone.conv1"), "no known Darknet53"),
        (lambda s: without(s, f"{STAGE3}.res4"), r"res4\.conv1\.conv\.weight is missing"),
        (lambda s: without(s, f"{STAGE3}.conv.bn"), r"conv_res_block3\.conv\.bn\.bias is missing"),
        (lambda s: renamed(s, "res4", "res17"), r"res4\.conv1\.conv\.weight is missing"),
        (lambda s: renamed(s, "res1.", "other."), r"res1\.conv1\.conv\.weight is missing"),
        (lambda s: s | {"backbone.conv1.bn.bias": torch.ones(7)}, r"bias is \(7,\)"),
        (lambda s: s | {"backbone.conv1.bn.bias": torch.ones(1, dtype=torch.int64)}, "int64"),
        (
            lambda s: s | {"backbone.conv1.bn.running_var": -torch.ones(1)},
            r"var has the invalid value -1\.0",
        ),
        (
            lambda s: s | {"backbone.conv1.conv.bias": torch.ones(1)},
            "conv.bias belongs to no layer",
        ),
        (lambda s: s | {f"{BRIDGE}.bn.bias": torch.full((32,), torch.nan)}, "nan"),
        (
            lambda s: s | {"head.weight": torch.full((255, 32, 1, 1), torch.inf)},
            r"head\.weight has the invalid value inf at \(0, 0, 0, 0\).*damaged",
        ),
        (lambda s: without(s, "neck.detect1.conv5"), r"neck2_reduce needs .*model\.neck=False"),
        (lambda s: {}, "no known Darknet53|no state dict"),
        (
            lambda s: s | {f"{BRIDGE}.bn.weight": torch.zeros(32)},
            r"bridge\.0\.bn\.weight contains only zeros, which training does not produce",
        ),
        (
            lambda s: s | {f"{STAGE3}.conv.bn.running_var": torch.ones(8)},
            r"running_var contains only the number 1\.0, which training does not produce",
        ),
        (
            lambda s: s | {f"{STAGE3}.conv.conv.weight": torch.zeros(8, 4, 3, 3)},
            r"conv_res_block3\.conv\.conv\.weight contains only zeros",
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_another_network_is_rejected_by_name(arrays, change, message, suffix, tmp_path):
    path = save(change(state_dict(arrays, by_mmdetection)), tmp_path / f"x{suffix}")
    with pytest.raises(ConfigError, match=message) as error:
        load_backbone(path, NETWORK)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_order_of_the_tensors_does_not_matter(arrays, reference, suffix, tmp_path):
    state = dict(reversed(state_dict(arrays, by_mmdetection).items()))
    path = save(state, tmp_path / f"x{suffix}")
    assert_equal(load_backbone(path, NETWORK).variables, reference.variables)
