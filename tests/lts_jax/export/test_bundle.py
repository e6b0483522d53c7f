"""Exported networks, run by processes that can import neither flax nor lts_jax."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

import tfds_refcoco
from lts_jax.cli import export as command
from lts_jax.configs import mini_refcoco as mini_refcoco_config
from lts_jax.configs.fields import plain_config
from lts_jax.data import image_ops, pipeline
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.experiment import experiment
from lts_jax.export.bundle import write_folder
from lts_jax.export.stablehlo import predictor
from lts_jax.export.standalone import pixels
from lts_jax.export.trained import Trained, flat_weights, read_run
from lts_jax.state import train_state
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.steps import original_size
from tests.lts_jax.helpers.tiny import TINY

BLOCKED = ("flax", "lts_jax", "tfds_refcoco", "orbax", "cv2", "tensorflow_datasets", "optax")
# What a user has: the folder, jax or onnxruntime, numpy, and something that reads an image.
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


def make_trained(words, **changes):
    """A network of random numbers, drawn so that its maps have contrast; nothing is compiled."""
    config = mini_refcoco_config.get_config()
    config.model.update(TINY)
    config.model.update(changes)
    config.data.image_size = 96
    model = experiment.make_model(config, Vocabulary(words))
    shapes = jax.eval_shape(lambda: train_state.init_state(model, optax.adam(1.0), 0, 96, 15))
    rng = np.random.default_rng(0)

    def draw(path, x):
        name = path[-1].key
        if name in ("scale", "var"):
            values = rng.uniform(0.5, 2, x.shape)
        elif name in ("bias", "mean"):
            values = rng.normal(0, 0.3, x.shape)
        else:
            gain = 2.5 if "segmenter" in str(path) and "mask" in str(path) else 1.0
            values = rng.normal(0, gain * np.prod(x.shape[:-1]) ** -0.5, x.shape)
        return values.astype(np.float32)

    variables = {"params": shapes.params, "batch_stats": shapes.batch_stats}
    weights = flat_weights(jax.tree_util.tree_map_with_path(draw, variables))
    return Trained(model, weights, config, list(words), {"step": 7})


@pytest.fixture(scope="module")
def real(mini_refcoco, tmp_path_factory):
    """The 12 real images, each with two of its sentences, and the vocabulary."""
    folder = tmp_path_factory.mktemp("data")
    tfds_refcoco.build("refcoco_unc", folder, mini_refcoco, progress=False)
    split = tfds_refcoco.open_dataset(folder, "refcoco_unc").split("val+testA+testB")
    rows = [int(row) for of_image in pipeline.rows_by_image(split) for row in of_image[:2]]
    return split, rows, Vocabulary.build(split.index.text)


def test_reloaded_networks_reproduce_the_masks_of_real_images(real, tmp_path):
    split, rows, vocabulary = real
    trained = make_trained(vocabulary.words)
    records = [split.record(int(split.index.record[row])) for row in rows]
    images = [image_ops.decode_image(record["image"]) for record in records]
    inputs = {f"image{i}": image for i, image in enumerate(images)}
    inputs |= {f"sentence{i}": split.index.text[row] for i, row in enumerate(rows)}
    np.savez(tmp_path / "inputs.npz", n=len(rows), **inputs)
    expected = ours(trained, images, [split.index.text[row] for row in rows])
    assert min(mask.std() for mask in expected) > 0.02  # masks with something in them
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
    """The masks at the images' own sizes, by the project's own pipeline."""
    preprocessing = experiment.make_preprocessing(trained.config, Vocabulary(trained.words))
    predict = jax.jit(predictor(trained.model))
    size = trained.config.data.image_size
    masks = []
    for source, sentence in zip(images, sentences, strict=True):
        placement = image_ops.place(*source.shape[:2], size, trained.config.data.resize)
        text = preprocessing.sentence(sentence)
        inputs = {
            "image": image_ops.fit_image(source, placement, size)[None],
            "tokens": text["tokens"][None],
            "length": text["length"][None],
        }
        mask = predict(trained.weights, inputs)["mask"]
        placed = np.array(placement, np.int32)[None]
        full = original_size.to_original_size(mask, placed, source.shape[:2], size // mask.shape[1])
        masks.append(np.asarray(full[0]))
    return masks


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 2, "prior": "logits"},
        {"locate": "word_filter", "fuse": False},
        {"locate": "none", "segment": False},
        {"segment": False, "neck": False},
    ],
)
def test_every_network_but_the_transformer_as_onnx(changes, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    trained = make_trained([f"w{i}" for i in range(9)], **changes)
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
        expected = jax.jit(predictor(trained.model))(trained.weights, inputs)
        result = dict(zip(names, session.run(names, inputs), strict=True))
        assert result.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(result[name], value, atol=1e-4)


def test_a_transformer_goes_to_stablehlo_for_any_batch_and_every_platform(tmp_path):
    trained = make_trained(["a", "b"], locate="transformer")
    with pytest.raises(ConfigError, match=r"transformer has no ONNX graph here.*stablehlo"):
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
        expected = jax.jit(predictor(trained.model))(trained.weights, inputs)
        result = exported.call(weights, inputs)
        for name, value in expected.items():
            np.testing.assert_allclose(result[name], value, atol=1e-5)


def test_pixels_equal_opencvs_to_the_bit():
    rng = np.random.default_rng(0)
    for h, w in ((480, 640), (427, 640), (333, 500), (640, 480), (375, 500), (100, 60), (640, 1)):
        image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        for size, resize in ((416, "letterbox"), (96, "letterbox"), (320, "squash")):
            placement = image_ops.place(h, w, size, resize)
            spec = {"image_size": size, "resize": resize, "border": image_ops.GRAY}
            square, box = pixels.fit(image, spec)
            assert box == placement
            expected = image_ops.fit_image(image, placement, size)
            difference = np.abs(square.astype(int) - expected)
            assert difference.max() <= 1 and (difference > 0).mean() < 5e-3, (h, w, size)
            if max(h, w) >= size:  # photographs are made smaller
                assert difference.max() == 0, (h, w, size)
            grid = rng.uniform(0, 1, (1, size // 4, size // 4)).astype(np.float32)
            placed = np.array(placement, np.int32)[None]
            full = original_size.to_original_size(grid, placed, (h, w), 4)[0]
            np.testing.assert_allclose(pixels.unfit(grid[0], box, spec), full, atol=2e-4)
    assert cv2.__version__.startswith("4.")


def test_the_command_exports_a_run(tiny_config_factory, tmp_path, capsys):
    from lts_jax.training import loop

    config = tiny_config_factory()
    config.train.epochs = 0.1
    config.train.drop_epochs = ()
    run = tmp_path / "run"
    loop.train(config, run)
    capsys.readouterr()
    for kind in ("safetensors", "onnx"):
        command.main([str(run), "--format", kind])
        folder = run / "export" / kind
        assert f"wrote {folder}: " in capsys.readouterr().out
        spec = json.loads((folder / "preprocessing.json").read_text())
        assert (spec["image_size"], spec["max_words"], spec["threshold"]) == (64, 12, 0.25)
        with Checkpoints(run) as checkpoints:
            words = checkpoints.read_run(checkpoints.best_step)["vocabulary"]
        assert json.loads((folder / "vocabulary.json").read_text()) == words
    tensors = load_file(run / "export" / "safetensors" / "model.safetensors")
    trained = read_run(run)
    assert plain_config(trained.config) == plain_config(config)
    assert tensors.keys() == trained.weights.keys()
    for name, value in trained.weights.items():
        np.testing.assert_array_equal(tensors[name], value)
    with pytest.raises(SystemExit, match="is not empty"):
        command.main([str(run), "--format", "onnx"])
    with pytest.raises(SystemExit, match="holds no checkpoint"):
        command.main([str(tmp_path / "none"), "--format", "onnx"])
    # The backbone of an exported run is a file of pretrained weights too.
    again = tiny_config_factory()
    again.train.epochs = 0.1
    again.train.drop_epochs = ()
    again.model.backbone_weights = str(run / "export" / "safetensors" / "model.safetensors")
    again.train.freeze = "backbone"
    loop.train(again, tmp_path / "again")
    new = read_run(tmp_path / "again").weights
    assert all(
        (value == new[name]).all() for name, value in tensors.items() if "/backbone/" in name
    )


def test_the_loader_is_thirty_lines():
    lines = Path(pixels.__file__).with_name("loader.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 30


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9, 3)),
        np.zeros((9, 9, 3), np.int64),
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((0, 9, 3), np.uint8),
    ],
)
def test_only_an_rgb_image_of_bytes_is_taken(image):
    spec = {"image_size": 96, "resize": "letterbox", "border": 128}
    with pytest.raises(ValueError, match=r"RGB, uint8 \[h, w, 3\], not (float|u?int)\d+ \("):
        pixels.fit(image, spec)


def test_the_loader_puts_the_weights_on_the_device_once(tmp_path, monkeypatch):
    trained = make_trained(["a"], segment=False, neck=False)
    write_folder(trained, "stablehlo", tmp_path / "x")
    given = []

    def jit(_function):
        return lambda weights, inputs: given.append(weights) or {"mask": np.zeros((1, 12, 12))}

    monkeypatch.setattr(jax, "jit", jit)
    monkeypatch.syspath_prepend(str(tmp_path / "x"))
    from loader import load

    segment = load(tmp_path / "x")
    for _ in range(2):
        assert segment(np.zeros((40, 60, 3), np.uint8), "a").shape == (40, 60)
    assert all(isinstance(x, jax.Array) for x in given[0].values()) and given[0] is given[1]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (".", "or holds, the folder that you are in"),
        ("..", "or holds, the folder that you are in"),
        ("full", "not empty"),
        ("file", "is a file"),
    ],
)
def test_a_folder_that_is_not_the_exports_own_is_refused(out, said, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"error: --out=.*{said}"):
        command.main(["run", "--format", "onnx", "--out", out])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
