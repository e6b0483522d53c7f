"""Files of this project, and files that are read without PyTorch."""

import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lts_jax.errors import ConfigError
from lts_jax.pretrained.backbone import load_backbone, save_backbone
from tests.lts_jax.pretrained.conftest import NETWORK


@pytest.fixture
def own(reference, tmp_path):
    save_backbone(tmp_path / "own.safetensors", reference)
    return tmp_path / "own.safetensors"


def test_a_file_of_this_project(own, reference, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    backbone = load_backbone(own, NETWORK)
    jax.tree.map(np.testing.assert_array_equal, backbone.variables, reference.variables)
    body = NETWORK._replace(neck=False)
    save_backbone(own, load_backbone(own, body))
    with pytest.raises(ConfigError, match=r"neck0_reduce.* is missing.*model\.neck=False"):
        load_backbone(own, NETWORK)
    with pytest.raises(ConfigError, match="belongs to no layer of this network"):
        load_backbone(own, body._replace(stages=(1, 2, 12, 2, 3)))


@pytest.mark.parametrize("source", ["[1]", "{", '{"a":' * 100_000])
def test_an_invalid_source(own, source):
    save_file(load_file(own), own, {"source": source, "conventions": '["darknet"]'})
    with pytest.raises(ConfigError, match="field `source` is not a JSON object"):
        load_backbone(own, NETWORK)


@pytest.mark.parametrize("names", ["", "{", "[]", '["none"]', '"darknet"', "[[]]"])
def test_invalid_conventions(own, names):
    save_file(load_file(own), own, {"conventions": names} if names else {})
    with pytest.raises(
        ConfigError, match=r"field `conventions` .*darknet, .*, timm: write .*again"
    ):
        load_backbone(own, NETWORK)


def test_other_tensors_must_be_finite_too(own):
    added = load_file(own) | {"params/text/x": np.array([0, np.inf])}
    save_file(added, own, {"conventions": '["darknet"]'})
    with pytest.raises(
        ConfigError, match=r"tensor params/text/x has the invalid value inf at \(1,\).*damaged"
    ):
        load_backbone(own, NETWORK)


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02"])
def test_a_pytorch_file_without_pytorch(start, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "x.pth"
    path.write_bytes(start)
    message = r"pip install 'lts_jax\[torch\]'.* once with `lts pretrained darknet .*x\.pth --out"
    with pytest.raises(ConfigError, match=message):
        load_backbone(path, NETWORK)
