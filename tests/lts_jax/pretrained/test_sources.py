"""Backbones saved by other projects have the same features as the original networks."""

import jax
import numpy as np
import pytest

from lts_jax.configs.default import FIELDS
from lts_jax.errors import ConfigError
from lts_jax.models.darknet53 import CONVENTIONS, Darknet53
from lts_jax.pretrained.backbone import load_backbone, save_backbone
from lts_jax.pretrained.layout import Network
from lts_jax.pretrained.sources import SOURCES
from tests.lts_jax.helpers.oracles import relative_error, to_nhwc

torch = pytest.importorskip("torch", reason="the original networks require PyTorch")
safetensors = pytest.importorskip("safetensors.torch")
from tests.lts_jax.helpers import torch_darknet53 as projects

WIDTH = 4
MAKE = {
    "timm": projects.Timm,
    "mmdetection": projects.Mmdetection,
    "SimREC": projects.Simrec,
    "PyTorch-YOLOv3 (module_list)": projects.ModuleList,
    "ultralytics/yolov3 before version 9 (module_list)": lambda width: projects.ModuleList(
        width, ("Conv2d", "BatchNorm2d")
    ),
}


def network(name):
    return Network(WIDTH, projects.STAGES, neck=name != "timm")


def save(state, path):
    if path.suffix == ".safetensors":
        safetensors.save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def features(variables, sizes, conventions, image):
    model = Darknet53(*sizes, conventions=CONVENTIONS[conventions])
    return jax.jit(lambda x: model.apply(variables, x, train=False))(image)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).uniform(0, 1, (1, 64, 96, 3)).astype(np.float32)


@pytest.mark.parametrize("name", MAKE)
def test_features_equal_the_projects_own(name, image, tmp_path):
    model = projects.randomized(MAKE[name](WIDTH))
    with torch.no_grad():
        theirs = model(torch.tensor(image.transpose(0, 3, 1, 2)))
    for suffix in (".pth", ".safetensors"):
        backbone = load_backbone(save(model.state_dict(), tmp_path / f"x{suffix}"), network(name))
        assert backbone.source["origin_project"] == name
        needed = backbone.source["conventions"]
        assert needed[0] == ("timm" if name == "timm" else "darknet")
        result = features(backbone.variables, network(name), needed[0], image)
        for ours, expected in zip(result, theirs, strict=True):
            assert relative_error(ours, to_nhwc(expected)) <= 1e-4
    if name == "timm":  # with Darknet's conventions, it would be another network
        wrong = features(backbone.variables, network(name), "darknet", image)
        assert relative_error(wrong.stride32, to_nhwc(theirs[2])) > 0.5


def test_epsilon_of_ultralytics_2020(image, tmp_path):
    """The config selects the epsilon, because both versions have the same tensor names."""
    names = ("Conv2d", "BatchNorm2d")
    # The epsilon matters for small variances.
    model = projects.randomized(projects.ModuleList(WIDTH, names, eps=1e-4), gain=0.05)
    with torch.no_grad():
        theirs = model(torch.tensor(image.transpose(0, 3, 1, 2)))
    backbone = load_backbone(save(model.state_dict(), tmp_path / "x.pth"), network("old"))
    assert backbone.source["conventions"] == ["darknet", "ultralytics_2020"]
    for conventions, near in (("ultralytics_2020", True), ("darknet", False)):
        result = features(backbone.variables, network("old"), conventions, image)
        assert (relative_error(result.stride32, to_nhwc(theirs[2])) <= 1e-4) == near


def test_prefix_is_removed(tmp_path):
    plain = projects.randomized(projects.Simrec(WIDTH)).state_dict()
    for prefix in ("module.", "visual_encoder.", "module.model."):
        state = {f"{prefix}{k}": v for k, v in plain.items()}
        state["language.weight"] = torch.ones(3, 2)
        source = load_backbone(save(state, tmp_path / "x.pth"), network("SimREC")).source
        assert source["origin_project"] == "SimREC" and source["skipped"] == 1


def test_mmdetections_backbone_alone(tmp_path):
    """Reads files like `open-mmlab://darknet53`."""
    model = projects.randomized(projects.Mmdetection(WIDTH))
    path = save(model.backbone.state_dict(), tmp_path / "x.pth")
    with pytest.raises(
        ConfigError, match=r"mmdetection does not contain YOLOv3's neck.*neck=False"
    ):
        load_backbone(path, network("mmdetection"))
    alone = load_backbone(path, network("mmdetection")._replace(neck=False))
    whole = load_backbone(
        save(model.state_dict(), tmp_path / "y.pth"), network("mmdetection")._replace(neck=False)
    )
    jax.tree.map(np.testing.assert_array_equal, alone.variables, whole.variables)


def test_what_a_source_needs_goes_along_with_a_converted_file(tmp_path):
    sizes = network("timm")
    path = save(projects.randomized(projects.Timm(WIDTH)).state_dict(), tmp_path / "x.pth")
    backbone = load_backbone(path, sizes)
    save_backbone(tmp_path / "own.safetensors", backbone)
    own = load_backbone(tmp_path / "own.safetensors", sizes)
    assert own.source["conventions"] == ["timm"]
    assert own.source["origin"]["origin_project"] == "timm"
    jax.tree.map(np.testing.assert_array_equal, own.variables, backbone.variables)


def ultralytics():
    names = ["model.0.conv", "model.0.bn", "model.1.cv1.conv", "model.1.cv2.conv"]
    return {f"{name}.weight": torch.rand(3, 3, 1, 1) for name in names}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("state", "pattern"),
    [
        (ultralytics(), r"model\.0\.conv\.weight, .* Ultralytics' YOLOv3 .*SiLU, eps 1e-3"),
        ({"module.conv1.weight": torch.rand(4, 3, 3, 3)}, "belong to no known Darknet53"),
        ({"stem.conv1.conv.weight": torch.rand(4, 3, 3, 3)}, "belong to no known Darknet53"),
    ],
)
def test_other_layouts_are_rejected_by_name(state, pattern, suffix, tmp_path):
    path = save(state, tmp_path / f"x{suffix}")
    with pytest.raises(ConfigError, match=pattern) as error:
        load_backbone(path, network("timm"))
    for name in (*MAKE, str(path), "binary .weights"):
        assert name in str(error.value)


def test_relatives_of_timms_darknet53_are_rejected(tmp_path):
    """CSPDarknet53 has additional tensors; sedarknet has attention in its blocks."""
    state = projects.randomized(projects.Timm(WIDTH)).state_dict()
    for extra in ("stages.0.conv_exp.conv.weight", "stages.1.blocks.0.attn.fc1.weight"):
        path = save(state | {extra: torch.rand(2, 2, 1, 1)}, tmp_path / "x.pth")
        with pytest.raises(ConfigError, match=f"tensor {extra} belongs to no layer"):
            load_backbone(path, network("timm"))
    fewer = network("timm")._replace(stages=(1, 2, 3, 1, 1))
    with pytest.raises(ConfigError, match=r"stages\.3\.blocks\.1\..* belongs to no layer"):
        load_backbone(save(state, tmp_path / "x.pth"), fewer)


def test_the_config_lists_the_conventions():
    (check,) = FIELDS["model.backbone_conventions"].checks
    assert all(check.accepts(name) for name in CONVENTIONS)
    assert check.message == f"must be one of {', '.join(CONVENTIONS)}"


def test_numbers_of_the_cfg_file():
    """At the published sizes, 52 convolutions and 23 shortcuts precede the neck."""
    source = next(s for s in SOURCES if s.leaves == ("Conv2d", "BatchNorm2d"))
    modules = source.modules(Network())
    assert modules["stage1_block0/ConvNormAct_0"][0] == "module_list.2.Conv2d"
    assert modules["stage2_down"][0] == "module_list.5.Conv2d"
    assert modules["stage5_block3/ConvNormAct_1"][1] == "module_list.73.BatchNorm2d"
    assert modules["neck0_reduce"][0] == "module_list.75.Conv2d"
    assert modules["neck2_expand"][0] == "module_list.80.Conv2d"
