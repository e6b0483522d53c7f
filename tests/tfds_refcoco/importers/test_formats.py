"""Golden files of LabelMe, CVAT and Label Studio, written from their documentation."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

import tfds_refcoco
from tests.tfds_refcoco.helpers.annotations import (
    RING,
    SQUARE,
    H,
    W,
    brush,
    check,
    raster,
)
from tests.tfds_refcoco.helpers.golden import GOLDEN, PATCH
from tests.tfds_refcoco.importers.conftest import SIZE
from tfds_refcoco.importers.label_studio import decode_brush


def test_labelme(workshop, capsys):
    assert workshop.run(*GOLDEN["labelme"](workshop)) == 0
    dog = np.zeros((H, W), bool)
    dog[5:15, 30:50] = PATCH > 0
    plate = Image.new("1", (W, H))
    ImageDraw.Draw(plate).ellipse((12.5, 12, 28.5, 28), outline=1, fill=1)
    bench = raster([1, 1, 9, 1, 9, 5], [1, 20, 9, 20, 9, 25])
    check(
        workshop,
        {
            "square cup": ("train", "cup", 2, raster(SQUARE)),
            "left cup": ("train", "cup", 2, raster(SQUARE)),
            "cup in the corner": ("train", "cup", 2, raster([50, 30, 58, 30, 58, 38, 50, 38])),
            "round plate": ("train", "plate", 1, np.asarray(plate)),
            "the dog": ("train", "dog", 1, dog),
            "bench": ("train", "bench", 1, bench),
            "the bowl": ("val", "bowl", 1, raster([5, 5, 20, 5, 12, 30])),
        },
    )
    printed = capsys.readouterr().out
    assert "1 shapes of the type linestrip were skipped: they have no area" in printed
    assert "1 flags of shapes were ignored" in printed


def test_cvat(workshop, capsys):
    assert workshop.run(*GOLDEN["cvat"](workshop)) == 0
    ellipse = np.zeros((H, W), np.uint8)
    for row in range(H):
        for column in range(W):
            x, y = column + 0.5 - 30.5, row + 0.5 - 20.5
            ellipse[row, column] = (x / 12) ** 2 + (y / 6) ** 2 <= 1
    check(
        workshop,
        {
            "cup on the left": ("train", "cup", 2, raster(SQUARE)),
            "the left cup": ("train", "cup", 2, raster(SQUARE)),
            # Rotated by 90 degrees about its centre 46, 15.
            "cup on its side": ("train", "cup", 2, raster([41, 9, 51, 9, 51, 21, 41, 21])),
            "dog": ("train", "dog", 1, RING),
            "plate": ("val", "plate", 1, ellipse > 0),
            "both parts": ("val", "leg", 1, raster([1, 1, 9, 1, 9, 5], [1, 20, 9, 20, 9, 25])),
        },
    )
    printed = capsys.readouterr().out
    assert "1 shapes of the type points were skipped" in printed
    assert "1 attributes of shapes were ignored" in printed


def test_label_studio(workshop, capsys):
    assert workshop.run(*GOLDEN["label-studio"](workshop)) == 0
    rows, columns = np.mgrid[:H, :W] + 0.5
    plate = ((columns - 30) / 12) ** 2 + ((rows - 20) / 6) ** 2 <= 1
    check(
        workshop,
        {
            "cup on the left": ("train", "cup", 2, raster(SQUARE)),
            "left cup": ("train", "cup", 2, raster(SQUARE)),
            # Rotated clockwise by 90 degrees about its top left corner 40, 10.
            "cup on its side": ("train", "cup", 2, raster([40, 10, 30, 10, 30, 22, 40, 22])),
            "dog": ("train", "dog", 1, RING),
            "plate": ("val", "plate", 1, plate),
        },
    )
    printed = capsys.readouterr().out
    for note in (
        "1 cancelled annotations were skipped",
        "1 further annotations of a task were skipped",
        "1 tasks without annotations were skipped",
        "1 results of the type relation were ignored",
        "1 results of the type keypointlabels were ignored",
    ):
        assert note in printed


@pytest.mark.parametrize("seed", range(3))
def test_brush_masks(seed):
    noise = np.random.default_rng(seed).random((H, W)) > 0.5
    mask = cv2.blur(noise.astype(np.float32), (5, 5)) > 0.5
    np.testing.assert_array_equal(decode_brush(bytes(brush(mask)), SIZE, "here"), mask)


def test_an_import_can_be_built(workshop):
    assert workshop.run(*GOLDEN["cvat"](workshop)) == 0
    tfds_refcoco.build("custom", workshop.root / "out", workshop.out, progress=False)
    built = tfds_refcoco.open_dataset(workshop.root / "out", "custom")
    assert built.splits == ("train", "val")
    record = built.split("val").record(0)
    assert record["image"] == (workshop.root / "images/1.jpg").read_bytes()
    assert record["objects"]["category"] == ["plate", "leg"]
