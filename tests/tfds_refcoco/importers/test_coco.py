"""Golden files of COCO and related formats, and copied pictures."""

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.tfds_refcoco.helpers import golden
from tests.tfds_refcoco.helpers.annotations import SQUARE, check, raster
from tests.tfds_refcoco.helpers.golden import COCO, GOLDEN
from tests.tfds_refcoco.importers.conftest import SIZE


@pytest.fixture
def coco_file(workshop):
    content = golden.coco()
    return content, lambda: workshop.write("instances.json", content)


def test_coco_and_csv(workshop, capsys):
    assert workshop.run(*GOLDEN["coco"](workshop)) == 0
    check(workshop, COCO)
    printed = capsys.readouterr().out
    assert "1 sentences about a crowd (iscrowd) were skipped" in printed
    assert "1 objects without sentences were skipped, but count for same_category" in printed
    content = workshop.content()
    assert content["image_dir"] == str(workshop.root / "images")
    assert [image["file"] for image in content["images"]] == ["0.jpg", "1.jpg"]
    assert [image["id"] for image in content["images"]] == [7, 8]
    assert [item["id"] for item in content["images"][0]["objects"]] == [11, 12]


def test_coco_and_json(workshop, coco_file):
    rows = [
        {"ann_id": 11, "text": ["cup on the left", "left cup"], "split": "test"},
        {"ann_ids": [11, 12], "text": "both cups", "split": "test"},
        {"image_id": 8, "text": "the cat", "split": "testA"},
    ]
    file = workshop.write("e.json", rows)
    assert workshop.run("coco", coco_file[1](), "--expressions", file) == 0
    both = raster(SQUARE), COCO["cup on the right"][3]
    check(
        workshop,
        {
            "cup on the left": ("test", "cup", 3, both[0]),
            "left cup": ("test", "cup", 3, both[0]),
            "both cups": ("test", "cup", 3, *both),
            "the cat": ("testA", None, None),
        },
    )


def test_coco_and_json_by_id(workshop, coco_file):
    file = workshop.write("e.json", {"11": "cup on the left", "13": ["a dog", "dog"]})
    assert workshop.run("coco", coco_file[1](), "--expressions", file, "--val", "0.5") == 0
    result = workshop.result()
    assert set(result) == {"cup on the left", "a dog", "dog"}
    assert {split for split, *_ in result.values()} == {"train", "val"}


def test_refer(workshop, capsys):
    arguments = GOLDEN["refer"](workshop)
    assert workshop.run(*arguments[:2]) == 1
    message = capsys.readouterr().err
    assert (
        "unknown split 'testC'; expected one of train" in message and "--split testC=val" in message
    )
    assert workshop.run(*arguments) == 0
    check(workshop, COCO)
    assert "1 images of the split testC were skipped" in capsys.readouterr().out
    sentences = [s for image in workshop.content()["images"] for s in image["sentences"]]
    assert [s["id"] for s in sentences] == [20, 21, 22]
    # An image in two splits: its id and its objects' ids would be duplicated.
    assert workshop.run(*arguments[:2], "--split", "testC=test") == 0
    assert "ids of images were ignored" in capsys.readouterr().out
    assert set(workshop.result()) == {*COCO, "dog"}


@pytest.mark.parametrize("orientation", range(2, 9))
def test_upright_copies(workshop, orientation):
    """Tools show images upright: the copy has upright pixels and no orientation tag."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = SIZE[::-1] if orientation >= 5 else SIZE
    path = workshop.photo("images/0.jpg", 1, exif=exif)
    rows = [[2, 3, 20, 3, 20, 30]]
    content = {
        "images": [{"id": 1, "file_name": "0.jpg", "width": upright[0], "height": upright[1]}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": rows, "caption": "cup"}
        ],
    }
    assert workshop.run("coco", workshop.write("instances.json", content), "--val", "0") == 0
    assert "image_dir" not in workshop.content()
    (name,) = (image["file"] for image in workshop.content()["images"])
    with Image.open(workshop.out / name) as copy:
        assert copy.size == upright and not copy.getexif()
        shown = cv2.imread(str(path))  # as displayed by viewers
        np.testing.assert_array_equal(np.asarray(copy), shown[..., ::-1])
    (mask,) = workshop.result()["cup"][3]
    assert mask.shape == upright[::-1]


def test_pictures_that_need_conversion(workshop, coco_file, capsys):
    content, write = coco_file
    for row, name in zip(content["images"], ("a.bmp", "b.png"), strict=True):
        row["file_name"] = name
    workshop.photo("images/a.bmp", 1)
    with Image.open(workshop.photo("images/b.png", 2)) as picture:
        picture.convert("RGBA").save(workshop.root / "images/b.png")
    file = workshop.write("e.json", {"11": "cup", "13": "dog"})
    assert workshop.run("coco", write(), "--expressions", file) == 0
    assert "2 images were copied to" in capsys.readouterr().out
    assert set(workshop.result()) == {"cup", "dog"}
