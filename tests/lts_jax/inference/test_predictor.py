"""Prediction for images of any kind and for any text."""

import dataclasses
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

import lts_jax
from lts_jax.config.flags import saved_config
from lts_jax.configs.fields import plain_config
from lts_jax.data.image_files import read_photo
from lts_jax.errors import ConfigError
from lts_jax.experiment.experiment import Experiment
from lts_jax.inference import batch
from lts_jax.inference.prediction import parse
from lts_jax.io import drawing
from lts_jax.state.checkpoints import Checkpoints
from tests.lts_jax.helpers.drawn import draw_state
from tfds_refcoco import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 50, 3), dtype=np.uint8)


def saved(picture, kind="png", **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def predictor(trained_run):
    return lts_jax.Predictor(trained_run)


def test_several_texts_share_one_encoding(predictor, monkeypatch):
    encoded = []
    original = predictor.programs.encode
    counting = predictor.programs._replace(encode=lambda x: encoded.append(1) or original(x))
    monkeypatch.setitem(predictor._compiled, (1, 1), counting)
    texts = ["red square", "the second star from the left", "zebra crossing"]
    result = predictor(PIXELS, texts)
    assert len(encoded) == 1 and [p.text for p in result] == texts
    assert result[2].unknown_words == ["zebra", "crossing"] and not result[0].unknown_words
    for p in result:
        assert p.mask.shape == p.probability.shape == p.heatmap.shape == (30, 50)
        np.testing.assert_array_equal(p.mask, p.probability > predictor.config.eval.threshold)
        np.testing.assert_array_equal(coco.decode(p.rle), p.mask)
    alone = predictor(saved(Image.fromarray(PIXELS)), texts[1])[0]
    np.testing.assert_array_equal(alone.probability, result[1].probability)
    assert np.abs(result[0].probability - result[1].probability).max() > 0


def test_the_threshold_that_is_best_on_val(predictor, trained_run, tmp_path):
    """From the checkpoint; the masks equal those of the evaluation at this threshold."""
    assert predictor.threshold == 0.25
    config = saved_config(plain_config(predictor.config))
    config.eval.threshold = "val"
    config.eval.best_split = "testA"  # of this command; the threshold was chosen on val
    best = lts_jax.Predictor(trained_run, config=config)
    assert best.threshold == 0.4
    (result,), (other,) = best(PIXELS, "red star"), predictor(PIXELS, "red star")
    np.testing.assert_array_equal(result.mask, result.probability > 0.4)
    np.testing.assert_array_equal(result.probability, other.probability)
    shutil.copytree(trained_run / "checkpoints", tmp_path / "checkpoints")
    metrics = next((tmp_path / "checkpoints").glob("*/metrics/metrics"))
    metrics.write_text('{"oiou": 0.5}')
    with pytest.raises(ConfigError, match=r"=val: .* contains no best threshold on val"):
        lts_jax.Predictor(tmp_path, config=config)
    assert lts_jax.Predictor(tmp_path).threshold == 0.25


def test_equals_the_evaluation(predictor, trained_run, shapes_data):
    split = shapes_data.split("testB")
    path = trained_run / "eval" / "testB" / "predictions.json"
    for row, entry in enumerate(json.loads(path.read_text())[:5]):
        record = split.record(int(split.index.record[row]))
        (result,) = predictor(record["image"], entry["sentence"])
        near = np.abs(result.probability - predictor.config.eval.threshold) <= 1e-5
        theirs = coco.decode(entry["segmentation"]) > 0
        assert (result.mask == theirs)[~near].all()


def test_pictures_for_notebooks(predictor):
    (result,) = predictor(PIXELS, "red star")
    np.testing.assert_array_equal(result.image, PIXELS)
    result = dataclasses.replace(result, mask=np.arange(50) < np.full((30, 1), 25))
    picture = np.asarray(result.overlay())
    assert picture.shape == PIXELS.shape
    np.testing.assert_array_equal(
        picture[5:25, 5:20], PIXELS[5:25, 5:20]
    )  # unchanged inside the mask
    assert picture[:, 30:].min() >= 165
    with Image.open(io.BytesIO(result._repr_png_()), formats=("PNG",)) as shown:
        np.testing.assert_array_equal(shown, picture)


def test_a_long_text_is_truncated(predictor):
    read = predictor.config.data.max_words
    (result,) = predictor(PIXELS, "red " * 500)
    assert result.unread_words == ["red"] * (500 - read)


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_no_words(predictor, text):
    with pytest.raises(DataError, match="no words"):
        predictor(PIXELS, ["red", text])


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (1300, 40), (6000, 8000)])
def test_odd_sizes(predictor, shape):
    (result,) = predictor(np.zeros((*shape, 3), np.uint8), "star")
    assert result.mask.shape == result.heatmap.shape == shape
    left, top, width, height = result.box or (0, 0, 0, 0)
    assert 0 <= left <= left + width <= shape[1] and 0 <= top <= top + height <= shape[0]


def test_kinds_of_pictures():
    grey = PIXELS[..., 0]
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_photo(saved(Image.fromarray(grey))), as_rgb)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_photo(saved(deep)), as_rgb)
    rgba = np.dstack([PIXELS, np.where(grey > 99, 255, 0).astype(np.uint8)])
    on_white = np.where(grey[..., None] > 99, PIXELS, 255)
    np.testing.assert_array_equal(read_photo(saved(Image.fromarray(rgba))), on_white)
    np.testing.assert_array_equal(read_photo(rgba), on_white)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees
    rotated = read_photo(saved(Image.fromarray(PIXELS), exif=exif))
    np.testing.assert_array_equal(rotated, np.rot90(PIXELS, -1))
    palette = Image.fromarray(PIXELS).quantize(16)
    np.testing.assert_array_equal(read_photo(saved(palette)), np.array(palette.convert("RGB")))
    cmyk = saved(Image.fromarray(PIXELS).convert("CMYK"), "jpeg")
    assert read_photo(cmyk).shape == PIXELS.shape


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg: no such file"),
        (b"no image", "image: not an image"),
        (saved(Image.fromarray(PIXELS))[:900], "not an image"),
        (np.zeros((2, 2, 3)), "float64"),
        (np.zeros((0, 2, 3), np.uint8), "uint8"),
        (saved(Image.fromarray(np.zeros((2, 2), np.float32)), "tiff"), "floating-point"),
        (saved(Image.new("1", (20000, 20000))), "too large"),
    ],
)
def test_bad_pictures(source, message):
    with pytest.raises(DataError, match=message):
        read_photo(source)


def test_files(predictor, tmp_path, capsys):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    lines = [("a.png", "red star"), ("a.png", "cross"), ("b.png", "heart")]
    (tmp_path / "jobs.jsonl").write_text(
        "".join(json.dumps({"image": i, "text": t}) + "\n" for i, t in lines)
    )
    Image.fromarray(PIXELS[:9]).save(tmp_path / "b.png")
    jobs = batch.read_jobs(None, [], str(tmp_path / "jobs.jsonl"))
    assert [len(job.phrases) for job in jobs] == [2, 1]
    batch.write_predictions(predictor, jobs, tmp_path / "out")
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [e["text"] for e in entries] == [t for _, t in lines]
    for entry, shape in zip(entries, [(30, 50), (30, 50), (9, 50)], strict=True):
        assert set(entry["files"]) == {"mask", "heatmap", "overlay"}
        with Image.open(tmp_path / "out" / entry["files"]["mask"]) as mask:
            pixels = np.array(mask)
        assert pixels.shape == shape and set(np.unique(pixels)) <= {0, 255}
        np.testing.assert_array_equal(coco.decode(entry["segmentation"]) * 255, pixels)
        with Image.open(tmp_path / "out" / entry["files"]["heatmap"]) as heatmap:
            assert heatmap.size == (shape[1], shape[0] + drawing.CAPTION)
        if entry["bbox"]:
            assert entry["bbox"] == coco.toBbox(entry["segmentation"]).tolist()


def test_bad_pictures_do_not_stop_the_others(predictor, tmp_path, capsys):
    names = ["absent.png", "a.png", "text.png", "\x1b[2J" + "é" * 122 + ".png"]
    for name in names[1:]:
        Image.fromarray(PIXELS).save(tmp_path / name)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "jobs.jsonl").write_text(
        "".join(json.dumps({"image": i, "text": "star"}) + "\n" for i in names)
    )
    jobs = batch.read_jobs(None, [], str(tmp_path / "jobs.jsonl"))
    with pytest.raises(DataError) as failed:
        batch.write_predictions(predictor, jobs, tmp_path / "out")
    lines = str(failed.value).splitlines()
    assert lines[0] == "2 of 4 images could not be read:"
    assert f"jobs.jsonl:1: image: {tmp_path}/absent.png: no such file" in lines[1]
    assert f"jobs.jsonl:3: image: {tmp_path}/text.png: not an image" in lines[2]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [entry["image"] for entry in entries] == [str(tmp_path / names[i]) for i in (1, 3)]
    assert entries[0]["files"]["mask"] == "0001_a_mask.png"  # numbers include unreadable images
    for entry in entries:  # a name of 253 bytes leaves no room for the suffixes
        assert all((tmp_path / "out" / name).is_file() for name in entry["files"].values())
    assert entries[1]["files"]["mask"].startswith("0003_")
    alone = batch.read_jobs(str(tmp_path / "text.png"), ["star"], None)
    with pytest.raises(DataError, match=f"^{tmp_path}/text.png: not an image"):
        batch.write_predictions(predictor, alone, tmp_path / "out")


def test_results_are_not_mixed_with_others(tmp_path):
    own = ["predictions.json", "0003_a_mask.png", "12345_a b_overlay.png", "0000_x_heatmap.png"]
    other = ["photo.png", "0003_a.png", "notes.json"]
    for name in own + other:
        (tmp_path / name).touch()
    refused = pytest.raises(ConfigError, match=r"contains results of .* --overwrite")
    with refused, batch.results_folder(tmp_path, overwrite=False):
        pass
    with batch.results_folder(tmp_path, overwrite=True) as folder:
        assert {p.name for p in folder.iterdir()} == {".lock", *other}
        again = pytest.raises(ConfigError, match=r"another run is using .* choose another --out")
        with again, batch.results_folder(tmp_path, overwrite=False):
            pass
    with batch.results_folder(tmp_path, overwrite=False):  # other files are ignored
        pass


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((None, [], None), "either --image"),
        (("a.png", [], None), "--image requires --text"),
        (("a.png", ["x"], "b.jsonl"), "either --image"),
    ],
)
def test_inconsistent_flags(args, message):
    with pytest.raises(ConfigError, match=message):
        batch.read_jobs(*args)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"image": "a.png"}',
        '{"image": 1, "text": "x"}',
        '{"image": "a.png", "text": "\xff"}',  # not UTF-8: written as Latin-1
        '{"image": "a.png", "text": " "}',
        '{"image": "a.png", "text": "red \\ud800"}',
        "[" * 100_000,
    ],
)
def test_bad_lines(tmp_path, line):
    (tmp_path / "jobs.jsonl").write_bytes(f"\r\n{line}\r\n".encode("l1"))
    with pytest.raises(DataError, match=r"jobs\.jsonl:2: "):
        batch.read_jobs(None, [], str(tmp_path / "jobs.jsonl"))


def test_unicode_line_separators_do_not_end_a_line(tmp_path):
    (tmp_path / "a.png").touch()
    text = "left\u2028cup\x85 \u2029of tea"
    line = json.dumps({"image": "a.png", "text": text}, ensure_ascii=False)
    (tmp_path / "jobs.jsonl").write_text(f"{line}\n{line}", encoding="utf-8")
    assert batch.read_jobs(None, [], str(tmp_path / "jobs.jsonl"))[0].phrases == [parse(text)] * 2


@pytest.mark.slow
def test_conventions_of_the_run(tiny_config_factory, tmp_path):
    """The same weights give other results with timm's slope and image normalization."""
    heatmaps = []
    for name in ("darknet", "timm"):
        config = tiny_config_factory()
        config.model.backbone_conventions = name
        experiment = Experiment.from_config(config)
        run = experiment.describe(experiment.train_split)
        with Checkpoints(tmp_path / name) as checkpoints:
            state, batches = draw_state(experiment.abstract_state), experiment.train_batches()
            checkpoints.save(1, state, batches, run, experiment.vocabulary.words)
            checkpoints.score(1, {"oiou": 0.5})
        (result,) = lts_jax.Predictor(tmp_path / name)(PIXELS, "red star")
        heatmaps.append(result.heatmap)
    assert np.abs(heatmaps[0] - heatmaps[1]).max() > 1e-3


def test_a_byte_order_mark(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "jobs.jsonl").write_text('{"image": "a.png", "text": "cup"}', encoding="utf-8-sig")
    assert batch.read_jobs(None, [], str(tmp_path / "jobs.jsonl"))[0].phrases == [parse("cup")]


def test_the_package_is_light(repo_root):
    code = "import sys, lts_jax; assert 'jax' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=repo_root, check=True)
    with pytest.raises(AttributeError, match="Predicter"):
        lts_jax.Predicter  # noqa: B018
