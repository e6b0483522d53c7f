"""`torch.save` files that are rejected: with code, damaged, or in an unusual format."""

import argparse
import os
import pathlib
import pickle
import re
import sys
import types
import zipfile

import numpy as np
import pytest

from lts_jax.errors import ConfigError
from lts_jax.pretrained.backbone import load_backbone
from lts_jax.pretrained.torch_checkpoint import load_tensors, to_numpy
from tests.lts_jax.pretrained.conftest import NETWORK
from tests.lts_jax.pretrained.torch_models import (
    assert_equal,
    by_mmdetection,
    save,
    state_dict,
    torch,
)

FORMATS = pytest.mark.parametrize("suffix", [".pth", ".pt"])


class Evil:
    def __init__(self, function, *args):
        self.args = (function, args)

    def __reduce__(self):
        return self.args


@FORMATS
@pytest.mark.parametrize("place", ["top", "value", "eval"])
def test_code_is_rejected_and_not_run(arrays, tmp_path, suffix, place):
    canary = tmp_path / "canary"
    state = state_dict(arrays, by_mmdetection)
    value, name = {
        "top": (Evil(os.mkdir, str(canary)), "mkdir"),
        "value": ({"state_dict": state, "x": Evil(os.mkdir, str(canary))}, "mkdir"),
        "eval": (state | {"x": Evil(eval, f"__import__('os').mkdir({str(canary)!r})")}, "eval"),
    }[place]
    path = save(value, tmp_path / f"x{suffix}")
    with pytest.raises(ConfigError, match=rf"rejects this file: .*{name}.*No code") as error:
        load_backbone(path, NETWORK)
    assert not canary.exists() and str(path) in str(error.value)


def a_checkpoint_of_timm(state):
    args = argparse.Namespace(model="darknet53", lr=0.1, output=pathlib.Path("runs"))
    return {"epoch": 3, "arch": "darknet53", "state_dict": state, "args": args, "metric": 77.6}


def a_checkpoint_of_mmdetection(state):
    meta = {"epoch": np.int64(3), "time": "now", "dataset_meta": {"palette": np.eye(3)}}
    hub = {"log_scalars": {"train/loss": HistoryBuffer()}, "runtime_info": {"lr": np.float64(0.1)}}
    return {"meta": meta, "state_dict": state, "message_hub": hub, "optimizer": {"state": {}}}


class HistoryBuffer:
    """Like mmengine's, which stores its methods by name."""

    def __init__(self):
        self.methods = {"mean": HistoryBuffer.mean}
        self.history = np.arange(3.0)

    def mean(self):
        return 0


HistoryBuffer.__module__ = "mmengine.logging.history_buffer"


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("make", [a_checkpoint_of_timm, a_checkpoint_of_mmdetection])
def test_objects_other_than_tensors(make, suffix, arrays, reference, tmp_path, monkeypatch):
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging", module.__name__):
            patch.setitem(sys.modules, name, module)
        state = state_dict(arrays, by_mmdetection)
        path = save(make(state), tmp_path / f"x{suffix}")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert_equal(load_backbone(path, NETWORK).variables, reference.variables)


@FORMATS
def test_ignored_objects_do_nothing(tmp_path, suffix, monkeypatch):
    """Even if the file refers to an existing object of a known package."""
    called = []
    for name in ("loadtxt", "save"):
        monkeypatch.setattr(np, name, lambda *args: called.append(args))
        np.__dict__[name].__module__, np.__dict__[name].__qualname__ = "numpy", name
    for function in (np.loadtxt, np.save):
        value = {"model": {"a": torch.ones(2)}, "x": Evil(function, "file")}
        path = save(value, tmp_path / f"x{suffix}")
        assert load_tensors(path)["a"].tolist() == [1, 1]
    assert not called


def test_the_line_of_python_in_the_error_saves_the_tensors(tmp_path, arrays, reference):
    state = state_dict(arrays, by_mmdetection)
    path = save({"state_dict": state, "trainer": Unknown()}, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match=r"Unknown") as error:
        load_backbone(path, NETWORK)
    line = re.search(r"other objects, use (torch\.save\(.*, NEW\))", str(error.value))[1]
    new = tmp_path / "new.pth"
    exec(line, {"torch": torch, "FILE": path, "NEW": new})
    assert_equal(load_backbone(new, NETWORK).variables, reference.variables)


class Unknown:
    pass


@FORMATS
def test_pickled_model_error_explains_how_to_save_it(tmp_path, suffix):
    path = save({"model": torch.nn.Conv2d(3, 1, 3), "epoch": 3}, tmp_path / f"model{suffix}")
    message = (
        r"torch\.nn.*Conv2d.*torch\.save\(model\.state_dict\(\), FILE\).*"
        r'torch\.save\(\{"state_dict": torch\.load\(FILE, weights_only=False\).*'
        "WARNING: weights_only=False runs code"
    )
    with pytest.raises(ConfigError, match=message):
        load_backbone(path, NETWORK)


@FORMATS
@pytest.mark.parametrize("cut", [0.001, 0.5, 0.999])
def test_truncated_files(arrays, tmp_path, suffix, cut):
    path = save(state_dict(arrays, by_mmdetection), tmp_path / f"x{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(ConfigError, match=r"x\.pth? is damaged .*download it again"):
        load_backbone(path, NETWORK)


def test_a_changed_number_is_noticed_by_its_checksum(arrays, tmp_path):
    """PyTorch itself would load the file."""
    path = save(state_dict(arrays, by_mmdetection), tmp_path / "x.pth")
    data = path.read_bytes()
    number = arrays["stage3_down"]["weights"].tobytes()[:64]
    at = data.index(number)
    path.write_bytes(data[:at] + bytes([number[0] ^ 1]) + data[at + 1 :])
    torch.load(path, weights_only=True)
    with pytest.raises(ConfigError, match=r"is damaged \(wrong checksum of x/data/"):
        load_backbone(path, NETWORK)


def test_compressed_files_are_not_unpacked(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(ConfigError, match=r"x/data\.pkl is compressed, which torch\.save never"):
        load_tensors(path)


@FORMATS
def test_tensors_that_numpy_cannot_hold(tmp_path, suffix):
    tensors = {
        "huge": torch.zeros(1).expand(2**40),  # uses no space in the file
        "sparse": torch.eye(2).to_sparse(),
        "fine": torch.ones(2, dtype=torch.complex64).conj(),
    }
    path = save(tensors, tmp_path / f"x{suffix}")
    loaded = load_tensors(path)
    with pytest.raises(ConfigError, match=r"tensor huge of shape \(1099511627776,\) is larger"):
        to_numpy(path, "huge", loaded["huge"])
    with pytest.raises(ConfigError, match=r"tensor sparse \(torch.float32, torch.sparse_coo\)"):
        to_numpy(path, "sparse", loaded["sparse"])
    assert to_numpy(path, "fine", loaded["fine"]).tolist() == [1, 1]


@FORMATS
@pytest.mark.parametrize("value", [[1], {}, {"model": {"a": 1}}, "text"])
def test_no_state_dict(tmp_path, suffix, value):
    path = save(value, tmp_path / f"x{suffix}")
    with pytest.raises(ConfigError, match="contains no state dict"):
        load_tensors(path)


def test_a_pytorch_whose_loading_is_not_safe(tmp_path, monkeypatch):
    path = save({"a": torch.ones(1)}, tmp_path / "x.pth")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ConfigError, match=r"PyTorch 2\.9\.1\+cpu .*pip install .*torch>=2\.10"):
        load_tensors(path)


def test_other_files_by_that_name(tmp_path):
    path = tmp_path / "x.pth.tar"
    path.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ConfigError, match=r"first bytes are not those of a torch\.save file"):
        load_backbone(path, NETWORK)
