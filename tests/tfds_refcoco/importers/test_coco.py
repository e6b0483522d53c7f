"""Golden files of COCO and its relatives, and the pictures that are copied for them."""

import pickle

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.tfds_refcoco.helpers.annotations import RING, SQUARE, H, W, check, raster
from tests.tfds_refcoco.importers.conftest import SIZE

TRIANGLE = [40, 8, 55.5, 30.25, 35, 33]


def uncompressed(mask):
    """COCO's RLE as a list: runs of columns, the first outside."""
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(np.diff(flat.astype(int))) if flat.any() else []
    runs = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": [H, W], "counts": runs.tolist()}


@pytest.fixture
def coco(workshop):
    content = {
        "images": [
            {"id": 7, "file_name": "sub\\0.jpg", "width": W, "height": H},
            {"id": 8, "file_name": "1.jpg", "width": W, "height": H},
        ],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 11, "image_id": 7, "category_id": 1, "segmentation": [SQUARE]},
            {
                "id": 12,
                "image_id": 7,
                "category_id": 1,
                "segmentation": [TRIANGLE, [2, 2, 8, 2, 8, 9]],
            },
            {"id": 13, "image_id": 8, "category_id": 2, "segmentation": uncompressed(RING)},
            {"id": 14, "image_id": 7, "category_id": 1, "segmentation": [SQUARE], "iscrowd": 1},
            {"id": 15, "image_id": 7, "category_id": 1, "segmentation": [[1, 30, 9, 30, 9, 38]]},
        ],
    }
    return content, lambda: workshop.write("instances.json", content)


COCO = {
    "cup on the left": ("train", "cup", 3, raster(SQUARE)),
    "cup on the right": ("train", "cup", 3, raster(TRIANGLE, [2, 2, 8, 2, 8, 9])),
    "dog, the one with a hole": ("val", "dog", 1, RING),
}


def test_coco_and_csv(workshop, coco, capsys):
    file = coco[1]()
    rows = (
        "\ufeffann_id,expression,split\n"
        "11,cup on the left,training\n12,cup on the right,training\n"
        '13,"dog, the one with a hole",valid\n14,the crowd,training\n'
    )
    assert workshop.run("coco", file, "--expressions", workshop.write("e.csv", rows)) == 0
    check(workshop, COCO)
    printed = capsys.readouterr().out
    assert "1 sentences about a crowd were left out" in printed
    assert "1 objects without a sentence were left out and counted as rivals" in printed
    content = workshop.content()
    assert content["image_dir"] == str(workshop.root / "images")
    assert [image["file"] for image in content["images"]] == ["0.jpg", "1.jpg"]
    assert [image["id"] for image in content["images"]] == [7, 8]
    assert [item["id"] for item in content["images"][0]["objects"]] == [11, 12]


def test_coco_and_json(workshop, coco):
    rows = [
        {"ann_id": 11, "text": ["cup on the left", "left cup"], "split": "test"},
        {"ann_ids": [11, 12], "text": "both cups", "split": "test"},
        {"image_id": 8, "text": "the cat", "split": "testA"},
    ]
    file = workshop.write("e.json", rows)
    assert workshop.run("coco", coco[1](), "--expressions", file) == 0
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


def test_coco_and_json_by_id(workshop, coco):
    file = workshop.write("e.json", {"11": "cup on the left", "13": ["a dog", "dog"]})
    assert workshop.run("coco", coco[1](), "--expressions", file, "--val", "0.5") == 0
    found = workshop.result()
    assert set(found) == {"cup on the left", "a dog", "dog"}
    assert {split for split, *_ in found.values()} == {"train", "val"}


def test_refer(workshop, coco, capsys):
    content, write = coco
    content["images"][0]["file_name"] = "0.jpg"
    # RRSIS-D has lists of compressed RLEs.
    rle = coco_mask.encode(np.asfortranarray(RING, np.uint8))
    rle["counts"] = rle["counts"].decode()
    content["annotations"][2]["segmentation"] = [rle]
    write()
    refs = [
        {
            "ref_id": 5 + i,
            "ann_id": ann_id,
            "image_id": image_id,
            "split": split,
            "category_id": 1,
            "sentences": [{"sent_id": 20 + i, "sent": text, "raw": text.upper(), "tokens": []}],
        }
        for i, (ann_id, image_id, split, text) in enumerate(
            [
                (11, 7, "train", "cup on the left"),
                (12, 7, "train", "cup on the right"),
                (13, 8, "validation", "dog, the one with a hole"),
                (13, 8, "testC", "dog"),
            ]
        )
    ]
    (workshop.root / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    assert workshop.run("refer", workshop.root) == 1
    message = capsys.readouterr().err
    assert "the split 'testC' is none of train" in message and "--split testC=val" in message
    assert workshop.run("refer", workshop.root, "--split", "testC=-") == 0
    check(workshop, COCO)
    assert "1 images of the split testC were left out" in capsys.readouterr().out
    sentences = [s for image in workshop.content()["images"] for s in image["sentences"]]
    assert [s["id"] for s in sentences] == [20, 21, 22]
    # An image of two splits: its id and those of its objects would appear twice.
    assert workshop.run("refer", workshop.root, "--split", "testC=test") == 0
    assert "ids of images were not kept" in capsys.readouterr().out
    assert set(workshop.result()) == {*COCO, "dog"}


def test_coco_export_of_cvat(workshop, coco):
    content, _ = coco
    for row, text in zip(content["annotations"], (*COCO, "crowd"), strict=False):
        row["attributes"] = {"occluded": False, "Expression": text}
    for split, image_id in (("train", 7), ("val", 8)):
        part = content | {
            "images": [row for row in content["images"] if row["id"] == image_id],
            "annotations": [row for row in content["annotations"] if row["image_id"] == image_id],
        }
        workshop.write(f"annotations/instances_{split}.json", part)
    assert workshop.run("cvat", workshop.root) == 0
    check(workshop, COCO)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_upright_copies(workshop, orientation):
    """Annotated as tools show it, upright: the copy has these pixels, and no orientation."""
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
        shown = cv2.imread(str(path))  # as viewers show it
        np.testing.assert_array_equal(np.asarray(copy), shown[..., ::-1])
    (found,) = workshop.result()["cup"][3]
    assert found.shape == upright[::-1]


def test_pictures_that_records_cannot_hold(workshop, coco, capsys):
    content, write = coco
    for row, name in zip(content["images"], ("a.bmp", "b.png"), strict=True):
        row["file_name"] = name
    workshop.photo("images/a.bmp", 1)
    with Image.open(workshop.photo("images/b.png", 2)) as picture:
        picture.convert("RGBA").save(workshop.root / "images/b.png")
    file = workshop.write("e.json", {"11": "cup", "13": "dog"})
    assert workshop.run("coco", write(), "--expressions", file) == 0
    assert "2 images were copied to" in capsys.readouterr().out
    assert set(workshop.result()) == {"cup", "dog"}
