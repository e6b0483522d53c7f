"""The state dicts of several projects give the same backbone; other networks are refused."""

import re

import jax
import numpy as np
import pytest

from lts_jax.errors import ConfigError
from lts_jax.pretrained.backbone import load_backbone
from tests.lts_jax.pretrained.conftest import NETWORK
from tests.lts_jax.pretrained.torch_models import (
    NAMINGS,
    assert_equal,
    by_twin,
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
    assert backbone.source["heads"] == 255 and "make sure" in backbone.source["warning"]
    assert backbone.source["skipped"] == 2
    assert len(backbone.source["sha256"]) == 64 and backbone.source["file"] == str(path)


@pytest.mark.parametrize("key", ["state_dict", "model", "net"])
def test_nested_channels_last_and_parameters(arrays, reference, key, tmp_path):
    state = {
        k: torch.nn.Parameter(v.to(memory_format=torch.channels_last)) if v.ndim == 4 else v
        for k, v in state_dict(arrays, by_twin).items()
    }
    path = save({"epoch": 3, key: state, "lr": [0.1, None, True]}, tmp_path / "x.pth")
    assert_equal(load_backbone(path, NETWORK).variables, reference.variables)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_other_precisions_become_float32(arrays, reference, suffix, tmp_path):
    state = state_dict(arrays, by_twin)
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: without(s, "stem"), r"0 tensors are \(1, 3, 3, 3\)"),
        (lambda s: without(s, "stage3.block4"), "not numbered evenly|where convolution"),
        (
            lambda s: without(s, "stage5.block3"),
            "names do not decide it|numbered evenly|where convolution",
        ),
        (lambda s: without(s, "stage3.down.norm"), "stage3.down.conv.weight has no BatchNorm"),
        (lambda s: without(s, "stage3.down.norm.running_var"), "running_var is missing"),
        (lambda s: renamed(s, "block4", "block17"), "numbered evenly|not decide it"),
        (lambda s: renamed(s, "stage2.block1", "stage2.other"), "names do not decide it"),
        (lambda s: s | {"backbone.stem.norm.bias": torch.ones(7)}, r"bias is \(7,\)"),
        (lambda s: s | {"backbone.stem.norm.bias": torch.ones(1, dtype=torch.int64)}, "int64"),
        (lambda s: s | {"backbone.stem.norm.running_var": -torch.ones(1)}, r"var holds -1\.0"),
        (lambda s: s | {"backbone.neck.1.expand.norm.bias": torch.full((32,), torch.nan)}, "nan"),
        (
            lambda s: s | {"head.weight": torch.full((255, 32, 1, 1), torch.inf)},
            r"head\.weight holds inf at \(0, 0, 0, 0\).*damaged",
        ),
        (lambda s: without(s, "neck.2"), r"neck2_reduce, is .*model\.neck"),
        (lambda s: {}, "0 tensors are|no state dict"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_another_network_is_refused_by_name(arrays, change, said, suffix, tmp_path):
    path = save(change(state_dict(arrays, by_twin)), tmp_path / f"x{suffix}")
    with pytest.raises(ConfigError, match=said) as error:
        load_backbone(path, NETWORK)
    assert str(path) in str(error.value)


def words_for_numbers(state):
    return {
        re.sub(r"neck\.(\d)", lambda m: "neck." + ["one", "two", "three"][int(m[1])], k): v
        for k, v in state.items()
    }


def one_module(state):
    """Numbered convolutions and lettered BatchNorms, with the whole neck in one module."""
    at = {f"{i}.{x}": 2 * i + (x == "expand") for i in range(3) for x in ("reduce", "expand")}

    def name(m):
        i = at[m[1]]
        return f"neck.conv{i}" if m[2] == "conv" else f"neck.norm_{'fedcba'[i]}"

    return {re.sub(r"neck\.(\d\.\w+)\.(conv|norm)", name, k): v for k, v in state.items()}


@pytest.mark.parametrize(
    "change",
    [words_for_numbers, one_module, lambda s: renamed(s, "stage1.down", "stage1.pool")],
)
def test_names_must_decide_the_order_in_safetensors(arrays, reference, change, tmp_path):
    state = change(state_dict(arrays, by_twin))
    path = save(state, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=r"does tensor .* come before .* as \.pth with torch"):
        load_backbone(path, NETWORK)
    pth = save(state, tmp_path / "x.pth")
    assert_equal(load_backbone(pth, NETWORK).variables, reference.variables)
