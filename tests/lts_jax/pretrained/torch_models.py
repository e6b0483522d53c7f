"""State dicts of Darknet53 with the tensor names of several PyTorch projects."""

import re
from collections import OrderedDict

import jax
import numpy as np
import pytest

from tests.lts_jax.pretrained.conftest import NETWORK

torch = pytest.importorskip("torch", reason="torch writes the files")
safetensors = pytest.importorskip("safetensors.torch")

NORM = {"bias": "bias", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def by_number(path, network=NETWORK):
    """Names of ultralytics/yolov3 until 2020: layer numbers of the cfg file."""
    before = [conv.path for conv in network.convs]
    before = before[: before.index(path)]
    at = len(before) + sum(other.endswith("ConvNormAct_1") for other in before)
    return f"module_list.{at}.Conv2d", f"module_list.{at}.BatchNorm2d"


def parts(path):
    """Splits a path into stage, block and convolution."""
    return re.findall(r"stem|down|block|reduce|expand|\d+", path)


def by_list(path):
    """Names of SimREC: nested lists, here with unnamed modules."""
    match parts(path):
        case ["stem"]:
            at = "module_list.0"
        case [stage, "down"]:
            at = f"module_list.{2 * int(stage) - 1}"
        case [stage, "block", block, conv]:
            at = f"module_list.{2 * int(stage)}.module_list.{block}.{conv}"
        case ["2", role]:
            at = f"module_list.{12 + (role == 'expand')}"
        case [i, role]:
            at = f"module_list.11.module_list.{i}.{int(role == 'expand')}"
    return f"{at}.0", f"{at}.1"


def by_mmdetection(path):
    match parts(path):
        case ["stem"]:
            at = "backbone.conv1"
        case [stage, "down"]:
            at = f"backbone.conv_res_block{stage}.conv"
        case [stage, "block", block, conv]:
            at = f"backbone.conv_res_block{stage}.res{block}.conv{int(conv) + 1}"
        case ["2", "expand"]:
            at = "bbox_head.convs_bridge.0"
        case [i, role]:
            at = f"neck.detect1.conv{2 * int(i) + 1 + (role == 'expand')}"
    return f"{at}.conv", f"{at}.bn"


NAMINGS = [by_number, by_list, by_mmdetection]


def state_dict(arrays, names, network=NETWORK):
    """A state dict with the names of one project, and a detection head."""
    state = OrderedDict()
    for conv in network.convs:
        weights, norm = names(conv.path)
        state[f"{weights}.weight"] = torch.tensor(arrays[conv.path]["weights"])
        for key, name in NORM.items():
            state[f"{norm}.{name}"] = torch.tensor(arrays[conv.path][key])
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    state["head.weight"], state["head.bias"] = torch.ones(255, 32, 1, 1), torch.ones(255)
    return state


def save(state, path):
    """Writes .safetensors, .pth, or, for .pt, the format used before PyTorch 1.6."""
    if path.suffix == ".safetensors":
        safetensors.save_file(dict(state), path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.suffix == ".pth")
    return path


def assert_equal(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
