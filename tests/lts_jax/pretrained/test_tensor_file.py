"""Tensor files of any project."""

import sys

import pytest

from lts_jax.errors import ConfigError
from lts_jax.pretrained.tensor_file import read_tensors


def test_a_pytorch_file_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "x.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigError, match="requires PyTorch: pip install") as error:
        read_tensors(tmp_path / "x.bin")
    assert "download it again" not in str(error.value)
