"""The results of the demo page."""

import html
import importlib.util
import re
import socket

import numpy as np
import pytest
from PIL import Image

import lts_jax
from lts_jax.cli import command
from lts_jax.demo import answers
from lts_jax.demo.examples import draw_examples
from lts_jax.io import drawing


@pytest.fixture(scope="module")
def predictor(trained_run):
    return lts_jax.Predictor(trained_run)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    file = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def test_masks_heatmaps_boxes_and_words(predictor, photo, monkeypatch):
    (prediction,) = predictor(photo, "red star")
    monkeypatch.setattr(predictor, "threshold", float(np.quantile(prediction.probability, 0.99)))
    (prediction,) = predictor(photo, "red star")
    assert 0 < prediction.box[2] < 1600
    lines = "red star\n\n  the zebra <b> \n" + "red " * 50
    pictures, text = answers.answer(predictor, str(photo), lines)
    names = ["red star", "the zebra <b>", ("red " * 50).strip()]
    assert [caption for _, caption in pictures] == [x for n in names for x in (n, f"heatmap: {n}")]
    terms = [html.unescape(x) for x in re.findall("<dt>(.*?)</dt>", text)]
    message = [html.unescape(x) for x in re.findall("<dd>(.*?)</dd>", text)]
    assert terms == names and "<b>" not in text
    assert "not in the vocabulary: zebra, <b>" in message[1] and "words were ignored" in message[2]
    numbers = re.search(r"left (\d+), top (\d+), (\d+) × (\d+) pixels", message[0]).groups()
    assert np.abs(np.array(numbers, int) - prediction.box).max() <= 4  # predicted at 1024 × 576
    assert float(message[0].partition("%")[0]) == pytest.approx(
        100 * prediction.mask.mean(), abs=0.5
    )
    mask, heatmap = (picture for picture, _ in pictures[:2])
    assert mask.size == (1024, 576) and heatmap.size == (1024, 576 + drawing.CAPTION)
    box = (np.asarray(mask) == drawing.TRUTH).all(axis=2)
    assert box.any(axis=1).sum() > 0.9 * prediction.box[3] * 1024 / 1600


def test_an_empty_mask_has_no_box(predictor, photo, monkeypatch):
    monkeypatch.setattr(predictor, "threshold", 1.0)
    _, text = answers.answer(predictor, str(photo), "red star")
    assert "<dd>0.0% of the image</dd>" in text


def test_one_encoding_for_all_lines(predictor, photo, monkeypatch):
    encoded = []
    original = predictor.encode
    monkeypatch.setattr(predictor, "encode", lambda x: encoded.append(1) or original(x))
    answers.answer(predictor, str(photo), "red star\ncircle")
    assert len(encoded) == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "Type what to find"),
        (" \n ", "Type what to find"),
        ("?!", "no words"),
        ("a\n" * 11, "11 sentences: type at most 10"),
        ("a" * 2001, "2001 characters: type at most 2000"),
    ],
)
def test_lines_that_cannot_be_answered(predictor, photo, lines, message):
    pictures, text = answers.answer(predictor, str(photo), lines)
    assert not pictures and text.startswith('<p role="alert">') and message in text


def test_pictures_that_cannot_be_read(predictor, tmp_path):
    assert "Drop an image" in answers.answer(predictor, None, "star")[1]
    text = tmp_path / "<i>.jpg"
    text.write_text("no picture")
    message = answers.answer(predictor, str(text), "star")[1]
    assert message.startswith('<p role="alert">&lt;i&gt;.jpg: not an image')
    large = tmp_path / "large.png"
    Image.new("1", (8001, 8000)).save(large)
    message = answers.answer(predictor, str(large), "star")[1]
    assert "large.png: image too large (8001 × 8000 pixels; at most 64,000,000 are" in message


def test_drawn_examples(tmp_path):
    examples = draw_examples(tmp_path)
    assert len({lines for _, lines in examples}) == len(examples) == 4
    for file, lines in examples:
        assert 1 <= len(lines.splitlines()) <= 3
        with Image.open(file) as picture:
            assert picture.format == "JPEG"


@pytest.mark.parametrize(
    ("installed", "port", "message"),
    [
        (False, None, "error: the demo requires Gradio: pip install 'lts_jax[demo]'"),
        (True, None, "error: --port=PORT cannot be used (Address already in use): choose another"),
        (True, 0, "error: --port=0 must be from 1 to 65535"),
    ],
)
def test_errors_before_the_network_is_read(monkeypatch, installed, port, message):
    find = importlib.util.find_spec
    names = {"gradio": "json" if installed else "absent"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find(names.get(name, name)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if port is None else port
        with pytest.raises(SystemExit) as stopped:
            command.main(["demo", "--workdir=absent", f"--port={port}"])
    assert str(stopped.value).startswith(message.replace("PORT", str(port)))
