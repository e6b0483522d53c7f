"""Files of `torch.save` that are refused: with code, damaged, or of a strange form."""

import os
import zipfile

import pytest

from lts_jax.errors import ConfigError
from lts_jax.pretrained.backbone import load_backbone
from lts_jax.pretrained.torch_checkpoint import load_tensors, to_numpy
from tests.lts_jax.pretrained.conftest import NETWORK
from tests.lts_jax.pretrained.torch_models import by_mmdetection, save, state_dict, torch

FORMATS = pytest.mark.parametrize("suffix", [".pth", ".pt"])


class Evil:
    def __init__(self, function, *args):
        self.args = (function, args)

    def __reduce__(self):
        return self.args


@FORMATS
@pytest.mark.parametrize("place", ["top", "value", "eval"])
def test_code_is_refused_and_not_run(arrays, tmp_path, suffix, place):
    canary = tmp_path / "canary"
    state = state_dict(arrays, by_mmdetection)
    value, name = {
        "top": (Evil(os.mkdir, str(canary)), "mkdir"),
        "value": ({"state_dict": state, "x": Evil(os.mkdir, str(canary))}, "mkdir"),
        "eval": (state | {"x": Evil(eval, f"__import__('os').mkdir({str(canary)!r})")}, "eval"),
    }[place]
    path = save(value, tmp_path / f"x{suffix}")
    with pytest.raises(ConfigError, match=rf"refuses this file: .*{name}.*No code") as error:
        load_backbone(path, NETWORK)
    assert not canary.exists() and str(path) in str(error.value)


@FORMATS
def test_a_whole_model_says_how_to_save_it(tmp_path, suffix):
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
    """PyTorch itself would load it."""
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
        "huge": torch.zeros(1).expand(2**40),  # takes no byte in the file
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
    with pytest.raises(ConfigError, match="holds no state dict"):
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
