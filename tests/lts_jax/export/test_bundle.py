"""Runs exported networks in processes that can import neither flax nor lts_jax."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import tfds_refcoco
from lts_jax.data import image_ops, pipeline
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.export.bundle import preprocessing, write_folder
from lts_jax.export.stablehlo import predictor
from lts_jax.models.darknet53 import Conventions
from lts_jax.pretrained.backbone import load_backbone
from lts_jax.pretrained.layout import Network
from lts_jax.steps import original_size
from tests.lts_jax.helpers.random_network import make_trained
from tests.lts_jax.helpers.tiny import TINY

SWIN = {"backbone": "swin_tiny", "backbone_width": 8, "backbone_stages": (2, 2, 1, 1)}
BERT = {
    "text": "bert",
    "bert_hidden": 8,
    "bert_layers": 2,
    "bert_heads": 2,
    "bert_intermediate": 16,
}
BLOCKED = ("flax", "lts_jax", "tfds_refcoco", "orbax", "cv2", "tensorflow_datasets", "optax")
# A user needs the folder, jax or onnxruntime, numpy, and an image reader.
SCRIPT = """
import sys
for name in BLOCKED:
    sys.modules[name] = None  # importing it raises
sys.path[0] = FOLDER
import numpy as np
from loader import load
segment = load(FOLDER)
data = np.load(INPUTS)
out = {}
for i in range(int(data["n"])):
    out[str(i)] = segment(data[f"image{i}"], str(data[f"sentence{i}"]))
np.savez(OUTPUTS, **out)
assert not [name for name in BLOCKED if sys.modules.get(name) is not None]
"""


@pytest.fixture(scope="module")
def real(mini_refcoco, tmp_path_factory):
    """The 12 real images with two sentences each, and the vocabulary."""
    folder = tmp_path_factory.mktemp("data")
    tfds_refcoco.build("refcoco_unc", folder, mini_refcoco, progress=False)
    split = tfds_refcoco.open_dataset(folder, "refcoco_unc").split("val+testA+testB")
    rows = [int(row) for of_image in pipeline.rows_by_image(split) for row in of_image[:2]]
    return split, rows, Vocabulary.build(split.index.text)


@pytest.mark.slow
def test_reloaded_networks_reproduce_the_masks_of_real_images(real, tmp_path):
    split, rows, vocabulary = real
    trained = make_trained(vocabulary.words)
    records = [split.record(int(split.index.record[row])) for row in rows]
    images = [image_ops.decode_image(record["image"]) for record in records]
    inputs = {f"image{i}": image for i, image in enumerate(images)}
    inputs |= {f"sentence{i}": split.index.text[row] for i, row in enumerate(rows)}
    np.savez(tmp_path / "inputs.npz", n=len(rows), **inputs)
    expected = ours(trained, images, [split.index.text[row] for row in rows])
    assert min(mask.std() for mask in expected) > 0.02  # masks are not constant
    for kind, tolerance in (("stablehlo", 1e-4), ("onnx", 1e-3)):
        write_folder(trained, kind, tmp_path / kind)
        names = {
            "BLOCKED": BLOCKED,
            "FOLDER": str(tmp_path / kind),
            "INPUTS": str(tmp_path / "inputs.npz"),
            "OUTPUTS": str(tmp_path / f"{kind}.npz"),
        }
        script = "".join(f"{k} = {v!r}\n" for k, v in names.items()) + SCRIPT
        subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
        with np.load(tmp_path / f"{kind}.npz") as result:
            worst = max(
                float(np.abs(result[str(i)] - mask).max()) for i, mask in enumerate(expected)
            )
        print(f"{kind}: largest difference of a probability {worst:.2e}")
        assert worst <= tolerance, kind


def ours(trained, images, sentences):
    """The masks at the original image sizes, from lts_jax's inference pipeline."""
    experiment = trained.experiment
    preprocessing, data = experiment.preprocessing, experiment.config.data
    predict = jax.jit(predictor(experiment.model))
    size = data.image_size
    masks = []
    for source, sentence in zip(images, sentences, strict=True):
        placement = image_ops.place(*source.shape[:2], size, data.resize)
        text = preprocessing.sentence(sentence)
        inputs = {
            "image": image_ops.fit_image(source, placement, size)[None],
            "tokens": text["tokens"][None],
            "length": text["length"][None],
        }
        mask = predict(trained.arrays, inputs)["mask"]
        placements = np.array(placement, np.int32)[None]
        full = original_size.to_original_size(
            mask, placements, source.shape[:2], size // mask.shape[1]
        )
        masks.append(np.asarray(full[0]))
    return masks


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 2, "prior": "logits", "coordinates": True},
        {"locate": "word_filter", "fuse": False},
        {"locate": "none", "segment": False},
        {"segment": False, "neck": False},
        {"neck": False, "backbone_conventions": "timm"},
        {"refine": "pointrend", "refine_points": 300},
        {"attention_layers": 2, "attention_words": True},
        {"attention_layers": 1, **BERT, "locate": "none"},
        {**SWIN, **BERT, "locate": "word_filter"},
        {**SWIN, "backbone": "swin_tiny_window12"},
        {"backbone": "convnext_tiny", "backbone_width": 8, "backbone_stages": (1, 2, 1, 1), **BERT},
        {"backbone": "resnet50", "backbone_width": 4, "backbone_stages": (1, 1, 2, 1)},
        {"backbone": "resnet50_dilated", "backbone_width": 4, "backbone_stages": (1, 1, 1, 2)},
        {
            "backbone": "efficientnet_lite0",
            "backbone_width": 8,
            "backbone_stages": (1, 2, 1, 1, 2, 1, 1),
        },
    ],
)
def test_every_network_but_the_transformer_as_onnx(changes, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if "text" in changes else []
    trained = make_trained([*special, *(f"w{i}" for i in range(9))], **changes)
    write_folder(trained, "onnx", tmp_path / "x")
    session = onnxruntime.InferenceSession(tmp_path / "x" / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        inputs = {
            "image": rng.integers(0, 256, (batch, 96, 96, 3), dtype=np.uint8),
            "tokens": rng.integers(1, 11, (batch, 15)).astype(np.int32),
            "length": rng.integers(1, 16, batch).astype(np.int32),
        }
        expected = jax.jit(predictor(trained.experiment.model))(trained.arrays, inputs)
        result = dict(zip(names, session.run(names, inputs), strict=True))
        assert result.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(result[name], value, atol=1e-4)


@pytest.mark.slow
def test_the_exports_use_the_conventions_of_the_weights(tmp_path):
    """Both graphs contain slope, epsilon and normalization; the files record them for weights."""
    onnxruntime = pytest.importorskip("onnxruntime")
    small = {"neck": False, "segment": False, "locate": "none"}
    trained = make_trained(["a"], backbone_conventions="timm", **small)
    variables = {"params": trained.state.params, "batch_stats": trained.state.batch_stats}
    rng = np.random.default_rng(0)
    inputs = {
        "image": rng.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8),
        "tokens": np.full((2, 15), 2, np.int32),
        "length": np.full(2, 4, np.int32),
    }
    # The output of the network with Darknet's conventions for normalized images.
    mean, std = np.float32([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    plain = trained.experiment.model.clone(backbone_conventions=Conventions(negative_slope=0.01))
    images = (inputs["image"] / np.float32(255) - mean) / std
    mask = plain.apply(variables, images, inputs["tokens"], inputs["length"], train=False).mask
    expected = np.asarray(jax.nn.sigmoid(mask))
    write_folder(trained, "onnx", tmp_path / "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    np.testing.assert_allclose(session.run(["mask"], inputs)[0], expected, atol=1e-4)
    write_folder(trained, "stablehlo", tmp_path / "hlo")
    exported = jax.export.deserialize(
        bytearray((tmp_path / "hlo" / "model.stablehlo").read_bytes())
    )
    weights = dict(np.load(tmp_path / "hlo" / "weights.npz"))
    np.testing.assert_allclose(exported.call(weights, inputs)["mask"], expected, atol=1e-4)
    spec = json.loads((tmp_path / "hlo" / "preprocessing.json").read_text())
    assert spec["mean"] == [0.485, 0.456, 0.406] and spec["std"] == [0.229, 0.224, 0.225]
    assert spec["backbone"] == {"negative_slope": 0.01, "epsilon": 1e-5}
    write_folder(trained, "safetensors", tmp_path / "tensors")
    sizes = Network(TINY["backbone_width"], TINY["backbone_stages"], neck=False)
    backbone = load_backbone(tmp_path / "tensors" / "model.safetensors", sizes)
    assert backbone.source["conventions"] == ["timm"]


@pytest.mark.parametrize(
    ("name", "stages", "epsilon", "mean"),
    [
        ("convnext_tiny", (1, 1, 1, 1), 1e-6, 0.485),
        ("efficientnet_lite0", (1, 1, 1, 0, 1, 0, 1), 1e-3, 127 / 255),
    ],
)
def test_the_preprocessing_of_another_backbone(name, stages, epsilon, mean):
    options = {"backbone_width": 8, "backbone_stages": stages, "neck": False}
    spec = preprocessing(make_trained(["a"], backbone=name, **options))
    assert spec["backbone"] == {"epsilon": epsilon} and spec["mean"][0] == mean


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (
            {"network": "cmpc", "text": "lstm", "backbone": "resnet50_dilated", "neck": True}
            | {"backbone_width": 4, "backbone_stages": (1, 1, 1, 1)},
            "model.network=cmpc",
        ),
        ({"text": "lstm"}, "model.text=lstm"),
    ],
)
def test_parts_without_onnx_graph_are_refused(changes, part, tmp_path):
    with pytest.raises(ConfigError, match=f"does not support {part}; use --format=stablehlo"):
        write_folder(make_trained(["a"], **changes), "onnx", tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"locate": "transformer"}, {"refine": "pointrend", "refine_points": 300}]
)
def test_stablehlo_runs_any_batch_size_on_every_platform(changes, tmp_path):
    trained = make_trained(["a", "b"], **changes)
    if "locate" in changes:
        with pytest.raises(ConfigError, match=r"does not support .*transformer; .*stablehlo"):
            write_folder(trained, "onnx", tmp_path / "onnx")
        assert not list(tmp_path.iterdir())
    write_folder(trained, "stablehlo", tmp_path / "x")
    exported = jax.export.deserialize(bytearray((tmp_path / "x" / "model.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    weights = dict(np.load(tmp_path / "x" / "weights.npz"))
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        inputs = {
            "image": rng.integers(0, 256, (batch, 96, 96, 3), dtype=np.uint8),
            "tokens": np.full((batch, 15), 2, np.int32),
            "length": np.full(batch, 4, np.int32),
        }
        expected = jax.jit(predictor(trained.experiment.model))(trained.arrays, inputs)
        result = exported.call(weights, inputs)
        for name, value in expected.items():
            np.testing.assert_allclose(result[name], value, atol=1e-5)
