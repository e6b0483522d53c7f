"""Files of torch.save and safetensors, real and damaged; torch writes them."""

import io
import os
import pickle
import re
import zipfile
from collections import OrderedDict

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lts_jax.errors import ConfigError
from lts_jax.pretrained.backbone import load_backbone, save_backbone
from lts_jax.pretrained.darknet import write_darknet
from lts_jax.pretrained.layout import assemble
from lts_jax.pretrained.torch_files import TorchFile

import yolov3
from yolov3 import MINI

torch = pytest.importorskip("torch", reason="torch writes the files")
safetensors = pytest.importorskip("safetensors.torch")

NETWORK = MINI._replace(stages=(1, 2, 12, 2, 4))  # twelve: names sort as numbers
NORM = {"bias": "bias", "scale": "weight", "mean": "running_mean", "var": "running_var"}


@pytest.fixture(scope="module")
def arrays():
    return yolov3.draw(yolov3.all_convs(NETWORK, 18))


@pytest.fixture(scope="module")
def reference(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "w"
    write_darknet(path, yolov3.numbers(arrays))
    return load_backbone(path, NETWORK)


def by_twin(path):
    """As benchmarks/torch_lts.py names them."""
    path = path.replace("/ConvNormAct_0", ".reduce").replace("/ConvNormAct_1", ".expand")
    path = re.sub(r"(stage\d)_", r"stages.\1.", path)
    path = re.sub(r"neck(\d)_", r"neck.\1.", path)
    return f"backbone.{path}.conv", f"backbone.{path}.norm"


def by_number(path, _at=[0]):  # noqa: B006
    """As the YOLOv3s that number the layers of the cfg file do."""
    _at[0] = 0 if path == "stem" else _at[0] + 1
    here = _at[0]
    _at[0] += path.endswith("ConvNormAct_1")  # the shortcut
    return f"module_list.{here}.Conv2d", f"module_list.{here}.BatchNorm2d"


def parts(path):
    """The stem, a stage's down, a block of a stage and its convolution, or the neck."""
    return re.findall(r"stem|down|block|reduce|expand|\d+", path)


def by_list(path):
    """As SimREC's: lists in lists."""
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


def by_role(path):
    """As YOLOv3s in which a block's convolutions share a module."""
    match parts(path):
        case ["stem"]:
            return "module.conv1", "module.bn1"
        case [stage, "down"]:
            return tuple(f"module.layer{stage}.ds_{x}" for x in ("conv", "bn"))
        case [stage, "block", block, conv]:
            at, n = f"module.layer{stage}.residual_{block}", int(conv) + 1
            return f"{at}.conv{n}", f"{at}.bn{n}"
    return f"module.neck.{path}.conv", f"module.neck.{path}.bn"


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


NAMINGS = [by_twin, by_number, by_list, by_role, by_mmdetection]


def state_dict(arrays, names, network=NETWORK):
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
    if path.suffix == ".safetensors":
        safetensors.save_file(dict(state), path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.suffix == ".pth")
    return path


def assert_equal(ours, expected):
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("names", NAMINGS)
def test_every_naming_gives_the_same_network(arrays, reference, names, suffix, tmp_path):
    """.pt stands for torch's older format here."""
    path = save(state_dict(arrays, names), tmp_path / f"x{suffix}")
    backbone = load_backbone(path, NETWORK)
    assert_equal(backbone.variables, reference.variables)
    assert backbone.source["heads"] == 255 and "make sure" in backbone.source["warning"]
    assert backbone.source["skipped"] == 2
    assert len(backbone.source["sha256"]) == 64 and backbone.source["file"] == str(path)


def test_wrapped_half_precision_and_channels_last(arrays, reference, tmp_path):
    state = state_dict(arrays, by_twin)
    last = {
        k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in state.items()
    }
    path = save({"epoch": 3, "model": last, "lr": [0.1, None, True]}, tmp_path / "x.pth")
    assert_equal(load_backbone(path, NETWORK).variables, reference.variables)
    for dtype, numpy in ((torch.float16, np.float16), (torch.float64, np.float32)):
        path = save({k: v.to(dtype) for k, v in state.items()}, tmp_path / "x.pth")
        expected = jax.tree.map(
            lambda x, t=numpy: x.astype(t).astype(np.float32), reference.variables
        )
        assert_equal(load_backbone(path, NETWORK).variables, expected)
    path = save({k: v.bfloat16() for k, v in state.items()}, tmp_path / "x.pth")
    got = load_backbone(path, NETWORK).variables["params"]["stem"]["norm"]["scale"]
    expected = torch.tensor(arrays["stem"]["scale"]).bfloat16().float().numpy()
    np.testing.assert_array_equal(got, expected)


def test_a_file_of_our_own(reference, tmp_path):
    path = tmp_path / "own.safetensors"
    save_backbone(path, reference)
    assert_equal(load_backbone(path, NETWORK).variables, reference.variables)
    body = NETWORK._replace(neck=False)
    plain = load_backbone(path, body)
    save_backbone(path, plain)
    with pytest.raises(ConfigError, match=r"neck0_reduce.* is missing.*model\.neck=False"):
        load_backbone(path, NETWORK)
    with pytest.raises(ConfigError, match="belongs to no layer of this network"):
        load_backbone(path, body._replace(stages=(1, 2, 12, 2, 3)))


@pytest.mark.parametrize("source", ["[1]", "{", '{"a":' * 100_000])
def test_a_source_that_is_none(reference, source, tmp_path):
    path = tmp_path / "own.safetensors"
    save_backbone(path, reference)
    safetensors.save_file(safetensors.load_file(path), path, {"source": source})
    with pytest.raises(ConfigError, match="field `source` is no JSON object"):
        load_backbone(path, NETWORK)


def test_what_is_skipped_is_finite_too(arrays, reference, tmp_path):
    state = state_dict(arrays, by_twin)
    state["head.weight"][7, 0] = torch.nan
    own = tmp_path / "own.safetensors"
    save_backbone(own, reference)
    with_text = safetensors.load_file(own) | {"params/text/x": torch.tensor([0.0, torch.inf])}
    safetensors.save_file(with_text, own)
    for path, said in (
        (save(state, tmp_path / "x.pth"), r"head\.weight holds nan at \(7, 0, 0, 0\)"),
        (save(state, tmp_path / "x.safetensors"), r"head\.weight holds nan"),
        (own, r"params/text/x holds inf at \(1,\)"),
    ):
        with pytest.raises(ConfigError, match=f"tensor {said}.*damaged"):
            load_backbone(path, NETWORK)


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
            "names do not say so|numbered evenly|where convolution",
        ),
        (lambda s: without(s, "stage3.down.norm"), "stage3.down.conv.weight has no BatchNorm"),
        (lambda s: without(s, "stage3.down.norm.running_var"), "running_var is missing"),
        (lambda s: renamed(s, "block4", "block17"), "numbered evenly|not say so"),
        (lambda s: renamed(s, "stage2.block1", "stage2.other"), "names do not say so"),
        (lambda s: s | {"backbone.stem.norm.bias": torch.ones(7)}, r"bias is \(7,\)"),
        (lambda s: s | {"backbone.stem.norm.bias": torch.ones(1, dtype=torch.int64)}, "int64"),
        (lambda s: s | {"backbone.stem.norm.running_var": -torch.ones(1)}, r"var holds -1\.0"),
        (lambda s: s | {"backbone.neck.1.expand.norm.bias": torch.full((32,), torch.nan)}, "nan"),
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
    """Convolutions by number beside BatchNorms by words, all of the neck in one module."""
    at = {f"{i}.{x}": 2 * i + (x == "expand") for i in range(3) for x in ("reduce", "expand")}

    def name(m):
        i = at[m[1]]
        return f"neck.conv{i}" if m[2] == "conv" else f"neck.norm_{'fedcba'[i]}"

    return {re.sub(r"neck\.(\d\.\w+)\.(conv|norm)", name, k): v for k, v in state.items()}


@pytest.mark.parametrize(
    "change",
    [words_for_numbers, one_module, lambda s: renamed(s, "stage1.down", "stage1.pool")],
)
def test_names_alone_must_order_a_file_that_keeps_none(arrays, reference, change, tmp_path):
    state = change(state_dict(arrays, by_twin))
    path = save(state, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=r"does tensor .* come before .* as \.pth, which does"):
        load_backbone(path, NETWORK)
    assert_equal(
        load_backbone(save(state, tmp_path / "x.pth"), NETWORK).variables, reference.variables
    )


class Evil:
    def __init__(self, function, *args):
        self.args = (function, args)

    def __reduce__(self):
        return self.args


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("place", ["whole", "value", "key", "after"])
def test_code_is_refused_and_not_run(arrays, tmp_path, suffix, place):
    canary = tmp_path / "canary"
    evil = Evil(os.mkdir, str(canary))
    state = state_dict(arrays, by_twin)
    value = {
        "whole": evil,
        "value": {"state_dict": state, "x": evil},
        "key": {"state_dict": state, (1, 2): 3},
        "after": {"state_dict": state, "x": Evil(eval, f"__import__('os').mkdir({str(canary)!r})")},
    }[place]
    path = save(value, tmp_path / f"x{suffix}")
    with pytest.raises(ConfigError, match=r"byte \d+ of .* asks for .*: refused, nothing was run"):
        load_backbone(path, NETWORK)
    assert not canary.exists()


def test_a_whole_model_says_how_to_save_it(tmp_path):
    torch.save(torch.nn.Conv2d(3, 1, 3), tmp_path / "model.pt")
    with pytest.raises(ConfigError, match=r"torch\.nn.*Conv2d.*torch\.save\(model\.state_dict"):
        load_backbone(tmp_path / "model.pt", NETWORK)


def test_sizes_that_the_file_does_not_hold(tmp_path):
    """A view may declare more elements than its storage has, without taking a byte."""
    huge = torch.zeros(1).expand(2**40)
    path = save({"a": huge}, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match=r"tensor a of size .* does not fit its storage of 1"):
        TorchFile(path).read("a")
    archive = tmp_path / "bomb.pth"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(ConfigError, match="members are larger than the file"):
        TorchFile(archive)


# The fuzz's own files: small, with layers of one shape in every stage and in the neck.
SMALL = MINI._replace(stages=(2, 2, 2, 2, 2))


def mutate(data, i, rng):
    data = bytearray(data)
    kind = i % 5
    if kind == 0:
        data[rng.integers(min(len(data), 4096))] = rng.integers(256)
    elif kind == 1:
        for at in rng.integers(len(data), size=4):
            data[at] ^= 1 << rng.integers(8)
    elif kind == 2:
        del data[rng.integers(len(data)) :]
    elif kind == 3:
        at, n = rng.integers(len(data)), int(rng.integers(1, 64))
        data[at : at + (n if rng.integers(2) else 0)] = rng.bytes(n if rng.integers(2) else 1)
    else:  # the last part, where a zip archive keeps its directory
        at = len(data) - 1 - rng.integers(min(len(data), 6000))
        data[at] = rng.integers(256)
    return bytes(data)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_thousand_mutated_files(suffix, tmp_path):
    """Each is refused by offset or tensor, or read as torch and safetensors themselves read it."""
    arrays = yolov3.draw(SMALL.convs)
    state = state_dict(arrays, by_number, SMALL)
    state = {k: v for k, v in state.items() if "num_batches" not in k}
    names = []
    for conv in SMALL.convs:
        weights, norm = by_number(conv.path)
        names.append([*(f"{norm}.{NORM[key]}" for key in NORM), f"{weights}.weight"])
    whole = save(state, tmp_path / f"whole{suffix}").read_bytes()
    expected = flatten_dict(load_backbone(tmp_path / f"whole{suffix}", SMALL).variables, sep="/")
    rng, refused = np.random.default_rng(0), 0
    for i in range(1000):
        data = mutate(whole, i, rng)
        path = tmp_path / f"mutated{suffix}"
        path.write_bytes(data)
        try:
            variables = load_backbone(path, SMALL).variables
        except ConfigError as error:
            where = r"bytes? \d+|tensors? |the table of tensors|data\.pkl|byte order|system"
            assert re.search(where, str(error)), str(error)
            refused += 1
            continue
        got = flatten_dict(variables, sep="/")
        if all(np.array_equal(got[k], v) for k, v in expected.items()):
            continue
        theirs = (
            safetensors.load(data)
            if suffix == ".safetensors"
            else torch.load(io.BytesIO(data), weights_only=True)
        )
        # By place: each tensor has its own name's numbers, or those of before where that changed.
        by_name = {
            conv.path: {
                key: theirs[name].float().numpy() if name in theirs else value
                for (key, value), name in zip(arrays[conv.path].items(), of_conv, strict=True)
            }
            for conv, of_conv in zip(SMALL.convs, names, strict=True)
        }
        assert_equal(variables, assemble(by_name))
    assert refused > 400


def test_pickle_is_never_used(monkeypatch, arrays, reference, tmp_path):
    """Nor torch, which a user need not have."""
    path = save(state_dict(arrays, by_twin), tmp_path / "x.pth")

    def never(*_args, **_kwargs):
        raise AssertionError("called")

    monkeypatch.setattr(pickle, "loads", never)
    monkeypatch.setattr(pickle, "Unpickler", never)
    monkeypatch.setattr(torch, "load", never)
    assert_equal(load_backbone(path, NETWORK).variables, reference.variables)
