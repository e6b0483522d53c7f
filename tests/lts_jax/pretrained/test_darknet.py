"""The reader of Darknet files, compared with OpenCV's."""

import functools
import re
import struct

import cv2
import jax
import numpy as np
import pytest

from lts_jax.cli import command
from lts_jax.errors import ConfigError
from lts_jax.models.darknet53 import Darknet53
from lts_jax.pretrained import backbone, layout
from lts_jax.pretrained.backbone import load_backbone, save_backbone
from lts_jax.pretrained.darknet import read_darknet, write_darknet
from lts_jax.pretrained.layout import Network
from tests.lts_jax.helpers import yolov3
from tests.lts_jax.helpers.oracles import relative_error, to_nhwc
from tests.lts_jax.helpers.yolov3 import TINY

FULL = Network()
NAMES = ("stride8", "stride16", "stride32")


def opencv(path, network, image, cfg_path):
    text, taps = yolov3.cfg(network, image.shape[1:3])
    cfg_path.write_text(text)
    net = cv2.dnn.readNetFromDarknet(str(cfg_path), str(path))
    net.setInput(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    outputs = net.forward(list(taps.values()))
    return {k: x.transpose(0, 2, 3, 1) for k, x in zip(taps, outputs, strict=True)}


@functools.cache
def compiled(network):
    model = Darknet53(network.width, network.stages, network.neck)
    return jax.jit(lambda v, x: model.apply(v, x, train=False))


def ours(network, variables, image):
    return compiled(network)(variables, image)


@pytest.mark.slow
def test_full_size_taps_equal_opencvs_and_torchs(tmp_path):
    """All variances are large; see `test_nearly_dead_channels` for small ones."""
    arrays = yolov3.draw(yolov3.all_convs(FULL), low=1.0, high=4.0)
    path = tmp_path / "yolov3.weights"
    write_darknet(path, yolov3.numbers(arrays), 32_013_312)
    assert path.stat().st_size == 248_007_048  # size of the published yolov3.weights
    backbone = load_backbone(path, FULL)
    rng = np.random.default_rng(1)
    images = [
        rng.uniform(0, 1, (1, *size, 3)).astype(np.float32) for size in ((416,) * 2, (256, 352))
    ]
    for image in images:
        expected = opencv(path, FULL, image, tmp_path / "yolov3.cfg")
        result = ours(FULL, backbone.variables, image)
        for name in NAMES:
            assert relative_error(getattr(result, name), expected[name]) <= 1e-4, name

    torch = pytest.importorskip("torch", reason="torch writes the state dict")
    from benchmarks.peer.encoders import Darknet53 as TorchDarknet53
    from tests.lts_jax.pretrained import torch_models

    twin = TorchDarknet53(FULL.width, FULL.stages, FULL.neck)
    fill(twin, arrays, torch)
    state = torch_models.state_dict(arrays, torch_models.by_mmdetection, FULL)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "darknet53.pth")
    loaded = load_backbone(tmp_path / "darknet53.pth", FULL)
    result = ours(FULL, loaded.variables, image)
    with torch.no_grad():
        twins = twin.eval()(torch.tensor(image.transpose(0, 3, 1, 2)))
    for name in NAMES:
        assert relative_error(getattr(result, name), expected[name]) <= 1e-4, name
        assert relative_error(getattr(result, name), to_nhwc(getattr(twins, name))) <= 1e-5, name
    assert_equal(loaded.variables, backbone.variables)


def fill(twin, arrays, torch):
    """Copies a Darknet file's arrays into a PyTorch Darknet53, by position."""
    convs = [m for m in twin.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in twin.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for of_conv, conv, norm in zip(arrays.values(), convs, norms, strict=False):
        for tensor, name in (
            (conv.weight, "weights"),
            (norm.bias, "bias"),
            (norm.weight, "scale"),
            (norm.running_mean, "mean"),
            (norm.running_var, "var"),
        ):
            tensor.data.copy_(torch.tensor(of_conv[name]))


def assert_equal(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_nearly_dead_channels(tmp_path):
    """Darknet's GPU code, torch and this project add 1e-5 to a variance; OpenCV adds 1e-6.

    This matters for small variances, so OpenCV reads a file that compensates for it.
    """
    arrays = yolov3.draw(yolov3.all_convs(TINY), low=0.01)
    path = tmp_path / "tiny.weights"
    write_darknet(path, yolov3.numbers(arrays))
    plain = TINY._replace(neck=False)
    backbone, of_plain = load_backbone(path, TINY), load_backbone(path, plain)
    assert sum((a["var"] < 1e-3).sum() for a in arrays.values() if "var" in a) > 50
    for of_conv in arrays.values():
        if "var" in of_conv:
            of_conv["var"] = of_conv["var"] + np.float32(1e-5 - 1e-6)
    write_darknet(path, yolov3.numbers(arrays))
    image = np.random.default_rng(1).uniform(0, 1, (1, 64, 96, 3)).astype(np.float32)
    expected = opencv(path, TINY, image, tmp_path / "tiny.cfg")
    result = ours(TINY, backbone.variables, image)
    for name in NAMES:
        assert relative_error(getattr(result, name), expected[name]) <= 1e-5, name
    result = ours(plain, of_plain.variables, image)
    assert relative_error(result.stride32, expected["plain32"]) <= 1e-5


def test_opencvs_epsilon_shows_where_variances_are_usual(tmp_path):
    """Weights are small, as with weight decay, and variances are those of the inputs."""
    arrays = yolov3.draw(yolov3.all_convs(TINY), low=0.05, high=0.5)
    variances = np.concatenate([x["var"] for x in arrays.values() if "var" in x])
    assert 0.01 < np.median(variances) < 0.1
    path = tmp_path / "tiny.weights"
    write_darknet(path, yolov3.numbers(arrays))
    image = np.random.default_rng(1).uniform(0, 1, (1, 64, 96, 3)).astype(np.float32)
    expected = opencv(path, TINY, image, tmp_path / "tiny.cfg")
    variables = load_backbone(path, TINY).variables
    # Equivalent to an epsilon of 1e-6, without compiling another network.
    shifted = jax.tree.map_with_path(
        lambda at, x: x + np.float32(1e-6 - 1e-5) if at[-1].key == "var" else x, variables
    )
    for weights, least, most in ((variables, 2e-4, 2e-2), (shifted, 0, 1e-4)):
        result = ours(TINY, weights, image)
        for name in NAMES:
            assert least < relative_error(getattr(result, name), expected[name]) <= most, name


def test_the_command_writes_safetensors(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(layout, "Network", lambda neck: TINY._replace(neck=neck))
    path, own = tmp_path / "yolov3.weights", tmp_path / "backbone.safetensors"
    write_darknet(path, tiny[1], 32_013_312)
    command.main(["pretrained", "darknet", str(path), "--out", str(own)])
    printed = capsys.readouterr().out
    assert "convolutions: 39" in printed and "WARNING: " in printed and f"wrote {own}" in printed
    assert_equal(load_backbone(own, TINY).variables, load_backbone(path, TINY).variables)


@pytest.mark.parametrize(
    ("conventions", "flag"),
    [
        (["darknet"], ""),
        (["timm"], " --config.model.backbone_conventions=timm"),
        (
            ["darknet", "timm"],
            " --config.model.backbone_conventions=darknet"
            " or --config.model.backbone_conventions=timm",
        ),
    ],
)
def test_the_command_names_the_flags_to_train_with(
    conventions, flag, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(layout, "Network", lambda neck: TINY._replace(neck=neck))
    path, own = tmp_path / "x.weights", tmp_path / "own.safetensors"
    write_darknet(path, tiny[1], 32_013_312)
    network = load_backbone(path, TINY._replace(neck=False))
    network.source["conventions"] = conventions
    monkeypatch.setattr(backbone, "load_backbone", lambda *_: network)
    command.main(["pretrained", "darknet", str(path), "--out", str(own), "--no_neck"])
    flags = f"--config.model.backbone_weights={own} --config.model.neck=False{flag}\n"
    assert capsys.readouterr().out.endswith(f"train with {flags}")


def count(arrays, convs):
    return sum(x.size for of_conv in list(arrays.values())[:convs] for x in of_conv.values())


BODY = 16  # convolutions of the tiny network; the neck has six more


@pytest.mark.parametrize("convs", [BODY, BODY + 1, BODY + 6, BODY + 7, BODY + 22, BODY + 23])
def test_truncated_forms(tiny, tmp_path, convs):
    """darknet53.conv.74, a file that ends after the neck, and all ends between and after."""
    arrays, numbers = tiny
    path = tmp_path / "cut"
    write_darknet(path, numbers[: count(arrays, convs)])
    network = TINY._replace(neck=convs >= BODY + 6)
    variables, described = read_darknet(path, network)
    assert described["convolutions"] == convs
    assert described["heads"] == (255 if convs > BODY + 6 else None)
    assert described["classes"] == (80 if convs > BODY + 6 else None)
    whole = tmp_path / "whole"
    write_darknet(whole, numbers)
    assert_equal(variables, load_backbone(whole, network).variables)
    if convs < BODY + 6:
        with pytest.raises(ConfigError, match=r"ends before neck.*model\.neck=False"):
            read_darknet(path, TINY)


@pytest.mark.parametrize("classes", [1, 20, 91])
def test_any_number_of_classes(tmp_path, classes):
    outputs = 3 * (5 + classes)
    arrays = yolov3.draw(yolov3.all_convs(TINY, outputs))
    write_darknet(tmp_path / "w", yolov3.numbers(arrays))
    described = read_darknet(tmp_path / "w", TINY)[1]
    assert (described["heads"], described["classes"]) == (outputs, classes)


def test_the_imagenet_classifier_is_read_past(tiny, tmp_path):
    arrays, numbers = tiny
    head = np.random.default_rng(0).normal(0, 1, 1000 * (1 + 32 * TINY.width))
    write_darknet(tmp_path / "w", np.concatenate([numbers[: count(arrays, BODY)], head]))
    _, described = read_darknet(tmp_path / "w", TINY._replace(neck=False))
    assert described["convolutions"] == BODY + 1 and described["heads"] is None


def test_the_old_header_counts_in_32_bits(tiny, tmp_path):
    _, numbers = tiny
    write_darknet(tmp_path / "new", numbers, 7_000_000_000)
    new, described = read_darknet(tmp_path / "new", TINY)
    assert (described["version"], described["images_seen"]) == ("0.2.0", 7_000_000_000)
    (tmp_path / "old").write_bytes(struct.pack("<iiiI", 0, 1, 0, 77) + numbers.tobytes())
    old, described = read_darknet(tmp_path / "old", TINY)
    assert (described["version"], described["images_seen"]) == ("0.1.0", 77)
    assert_equal(old, new)


def test_stock_weights_are_warned_about(tiny, tmp_path):
    _, numbers = tiny
    path = tmp_path / "w"
    write_darknet(path, numbers, 32_013_312)
    stock = load_backbone(path, TINY)
    assert re.search("is the stock YOLOv3, .* val and test images", stock.source["warning"])
    save_backbone(tmp_path / "own.safetensors", stock)  # the warning is saved with the weights
    own = load_backbone(tmp_path / "own.safetensors", TINY)
    assert own.source["warning"] == stock.source["warning"]
    assert own.source["origin"] == stock.source
    # It is also preserved by a run that started from another run and by an export.
    record = {"step": 7, "weights": {"start_from": {"weights": {"backbone_weights": own.source}}}}
    record["conventions"] = ["darknet"]
    save_backbone(tmp_path / "run.safetensors", own._replace(source=record))
    of_run = load_backbone(tmp_path / "run.safetensors", TINY).source
    assert of_run["warning"] == stock.source["warning"]
    assert_equal(own.variables, stock.variables)
    write_darknet(path, numbers, 30_720_000)
    assert "Make sure" in load_backbone(path, TINY).source["warning"]
    write_darknet(path, numbers[: count(yolov3.draw(yolov3.all_convs(TINY)), BODY + 6)], 0)
    assert "warning" not in load_backbone(path, TINY).source


def test_how_many_held_out_images_there_are(test_data, repo_root):
    """Checks the numbers in the warning, the documentation and `check`."""

    def ids(name):
        return set((test_data / "splits" / f"{name}.txt").read_text().split())

    everything = ids("val_test_union")
    refcoco = set().union(*(ids(f"refcoco_unc_{name}") for name in ("val", "testA", "testB")))
    assert (len(everything), len(refcoco)) == (10_113, 3_000) and refcoco <= everything
    # RefCOCOg's two splits have the same images: UMD holds out all images outside its train.
    umd_too = refcoco | (everything - ids("refcocog_umd_train"))
    assert len(umd_too) == 6_549 and len(everything - umd_too) == 3_564
    page = " ".join((repo_root / "docs/pretrained.md").read_text(encoding="utf-8").split())
    assert "6,549 are the val and test images of RefCOCO and RefCOCO+ (UNC) and of" in page
    assert "| all of these | 10,113 | all | 3,564 |" in page
    assert "10,113 in total" in backbone._LEAK and "3,564 images" in backbone._LEAK
