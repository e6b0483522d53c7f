"""Variants of the formats that the golden files do not cover."""

import base64
import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from tests.tfds_refcoco.helpers import golden
from tests.tfds_refcoco.helpers.annotations import (
    RING,
    SQUARE,
    H,
    W,
    check,
    cvat,
    raster,
    region,
    uncompressed,
)
from tests.tfds_refcoco.helpers.golden import COCO, GOLDEN, labelme
from tests.tfds_refcoco.importers.test_faults import fails


def png(mask, mode):
    """A base64 PNG, as tools embed masks; in RGBA images the mask is the alpha channel."""
    file, pixels = io.BytesIO(), 255 * mask.astype(np.uint8)
    if mode == "RGBA":
        pixels = np.dstack([np.zeros((*mask.shape, 3), np.uint8), pixels])
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def by_subset(workshop, folder):
    """A COCO export of a CVAT project: masks as crowds, boxes without segmentation."""
    content = golden.coco()
    del content["annotations"][3]
    box = {"id": 16, "image_id": 8, "category_id": 2, "segmentation": [], "bbox": [1, 2, 3, 4]}
    content["annotations"].append(box)
    for row, text in zip(content["annotations"], [*COCO, "", "the box"], strict=True):
        row["attributes"] = {"occluded": False, "Expression": text}
        row["iscrowd"] = int(isinstance(row["segmentation"], dict))
    for image_id, subset in ((7, "Train"), (8, "Validation")):
        images = [row for row in content["images"] if row["id"] == image_id]
        (workshop.root / f"images/{subset}").mkdir()
        # The images of both subsets have this name.
        name = images[0]["file_name"][-5:]
        (workshop.root / "images" / name).rename(workshop.root / f"images/{subset}/0.jpg")
        images[0]["file_name"] = "0.jpg"
        rows = [row for row in content["annotations"] if row["image_id"] == image_id]
        part = content | {"images": images, "annotations": rows}
        workshop.write(f"{folder}/instances_{subset}.json", part)


def test_coco_export_of_a_cvat_project(workshop, capsys):
    by_subset(workshop, "annotations")
    assert workshop.run("cvat", workshop.root) == 0
    left, right, dog = COCO.items()
    check(workshop, dict([left, right, (dog[0], ("val", "dog", 2, RING))]))
    printed = capsys.readouterr().out
    assert "1 sentences about objects with a box but no mask were skipped" in printed
    images = workshop.content()["images"]
    assert [image["file"] for image in images] == ["Train/0.jpg", "Validation/0.jpg"]


def test_a_cvat_project(workshop):
    """Each subset has an image folder, and video frames have no extension."""
    for number, folder in enumerate(("Train/sub", "val")):
        (workshop.root / f"images/{folder}").mkdir(parents=True)
        photo = workshop.root / f"images/{number}.jpg"
        photo.rename(workshop.root / f"images/{folder}/frame_000000.png")
    text = cvat().replace('"sub/0.jpg"', '"sub/frame_000000"').replace('"1.jpg"', '"frame_000000"')
    workshop.write("annotations.xml", text)
    assert workshop.run("cvat", workshop.root) == 0
    files = [image["file"] for image in workshop.content()["images"]]
    assert files == ["Train/sub/frame_000000.png", "val/frame_000000.png"]
    assert workshop.result()["plate"][0] == "val"


def test_two_images_that_resolve_to_one_file(workshop, capsys):
    """Without its folder, a name may match another image."""
    text = cvat().replace('"1.jpg"', '"other/0.jpg"')
    message = fails(workshop, capsys, "cvat", workshop.write("annotations.xml", text))
    assert "'Train/sub/0.jpg' and 'val/other/0.jpg' both resolve to the file" in message
    assert "set --images to the folder that these names are relative to" in message


@pytest.mark.parametrize("rows", ["ann_id;expression", "ann_id\texpression"])
def test_tables_of_other_delimiters(workshop, rows):
    delimiter = rows[6]
    for ann_id, text in ((11, "cup, left"), (13, "dog")):
        rows += f"\n{ann_id}{delimiter}{text}"
    file = workshop.write("instances.json", golden.coco())
    table = workshop.write("e.csv", rows)
    assert workshop.run("coco", file, "--expressions", table, "--val", "0") == 0
    assert set(workshop.result()) == {"cup, left", "dog"}


def test_expressions_of_several_files(workshop, capsys):
    by_subset(workshop, "coco")
    table = workshop.write("coco/texts.json", {"11": "cup", "13": "a crowd", "15": "cup below"})
    arguments = ["coco", workshop.root / "coco", "--expressions", table]
    assert workshop.run(*arguments) == 0
    assert {text: of[0] for text, of in workshop.result().items()} == {
        "cup": "train",
        "cup below": "train",
    }
    assert "import a COCO export of CVAT" in capsys.readouterr().out
    (workshop.out / "custom.json").unlink()
    content = json.loads((workshop.root / "coco/instances_Validation.json").read_text())
    content["annotations"][0]["id"] = 11
    workshop.write("coco/instances_Validation.json", content)
    assert "several of its files have the id 11" in fails(workshop, capsys, *arguments)


def test_a_folder_for_each_split(workshop):
    """Roboflow's COCO export."""
    by_subset(workshop, "coco")
    for subset, folder in (("Train", "train"), ("Validation", "valid")):
        (workshop.root / f"r/{folder}").mkdir(parents=True)
        file = workshop.root / f"coco/instances_{subset}.json"
        file.rename(workshop.root / f"r/{folder}/_annotations.coco.json")
        photo = workshop.root / f"images/{subset}/0.jpg"
        photo.rename(workshop.root / f"r/{folder}/0.jpg")
    assert workshop.run("coco", workshop.root / "r") == 0
    assert {text: of[0] for text, of in workshop.result().items()} == dict.fromkeys(
        list(COCO)[:2], "train"
    )


def test_shapes_of_labelme_and_compatible_tools(workshop, capsys):
    tilted = [[20, 5], [35, 15], [30, 22], [15, 12]]
    corners = [[40, 10], [50, 10], [50, 20], [40, 20]]
    patch = np.ones((6, 8), bool)
    shapes = [
        {"label": "a", "points": tilted, "shape_type": "oriented_rectangle"},
        {"label": "b", "points": tilted, "shape_type": "rotation", "direction": 0.5},
        {"label": "c", "points": corners, "shape_type": "rectangle"},
        {
            "label": "d",
            "points": [[-2, 36], [5, 41]],
            "shape_type": "mask",
            "mask": png(patch, "1"),
        },
        {"label": "e", "points": tilted, "shape_type": None},
        {"label": "f", "points": tilted, "shape_type": "cuboid"},
    ]
    shapes = [shape | {"description": f"the {shape['label']}"} for shape in shapes]
    workshop.write("labels/0.json", labelme(shapes) | {"flags": {"blurred": True}})
    assert workshop.run("labelme", workshop.root / "labels", "--val", "0") == 0
    outside = np.zeros((H, W), bool)
    outside[36:40, :6] = True
    turned = raster(np.ravel(tilted))
    check(
        workshop,
        {
            "the a": ("train", "a", 1, turned),
            "the b": ("train", "b", 1, turned),
            "the c": ("train", "c", 1, raster(np.ravel(corners))),
            "the d": ("train", "d", 1, outside),
            "the e": ("train", "e", 1, turned),
        },
    )
    printed = capsys.readouterr().out
    assert "1 shapes of the type cuboid were skipped: the type is unknown" in printed
    assert "1 flags of images were ignored" in printed


def test_bitmasks_and_notes_of_label_studio(workshop, capsys):
    url = {"imageDataURL": f"data:image/png;base64,{png(RING, 'RGBA')}"}
    results = [
        region(1, "bitmasklabels", url | {"bitmasklabels": ["dog"]}, meta={"text": ["the dog"]}),
        region(1, "textarea", url | {"text": ["dog with a hole"]}, meta={"text": ["the dog"]}),
    ]
    task = {"id": 1, "data": {"image": "s3://photos/a/0.jpg"}, "annotations": [{"result": results}]}
    file = workshop.write("export.json", [task])
    assert workshop.run("label-studio", file) == 0
    check(workshop, {"dog with a hole": ("train", "dog", 1, RING)})
    assert "1 notes on regions were ignored (read them with --text meta)" in capsys.readouterr().out
    assert workshop.run("label-studio", file, "--text", "meta") == 0
    check(workshop, {"the dog": ("train", "dog", 1, RING)})
    assert "1 texts of other text areas were ignored" in capsys.readouterr().out
    url["imageDataURL"] = f"data:image/png;base64,{png(RING, 'L')}"
    task["annotations"][0]["result"] = [region(1, "bitmask", url, meta={"text": ["dog"]})]
    (workshop.out / "custom.json").unlink()
    file = workshop.write("export.json", [task])
    message = fails(workshop, capsys, "label-studio", file, "--text", "meta")
    assert "expected a PNG with alpha and 60x40 pixels, got shape (40, 60)" in message


def test_training_on_one_image(workshop):
    rows = [{"label": "cup", "points": np.reshape(SQUARE, (-1, 2)).tolist(), "description": "cup"}]
    workshop.write("labels/0.json", labelme(rows))
    assert workshop.run("labelme", workshop.root / "labels") == 0
    assert workshop.result()["cup"][0] == "train"


def test_an_image_of_refer_that_is_in_two_folders(workshop, capsys):
    arguments = GOLDEN["refer"](workshop)
    workshop.photo("images/thumbnails/0.jpg", 0)  # an equal picture
    message = fails(workshop, capsys, *arguments)
    assert "image '0.jpg' matches" in message and "images/thumbnails/0.jpg; set --images" in message
    assert workshop.run(*arguments, "--images", workshop.root / "images") == 1
    (workshop.root / "photos").mkdir()
    for number in (0, 1):
        (workshop.root / f"images/{number}.jpg").rename(workshop.root / f"photos/{number}.jpg")
    assert workshop.run(*arguments, "--images", workshop.root / "photos") == 0
    check(workshop, COCO)


def test_refs_with_numbers_of_numpy(workshop, capsys):
    arguments = GOLDEN["refer"](workshop)
    file = workshop.root / "refs(unc).p"
    refs = pickle.loads(file.read_bytes())
    file.write_bytes(pickle.dumps([ref | {"ann_id": np.int64(ref["ann_id"])} for ref in refs], 2))
    assert "You can also save your refs as JSON: refs(unc).json." in fails(
        workshop, capsys, *arguments
    )
    file.unlink()
    workshop.write("refs(unc).json", refs)
    assert workshop.run(*arguments) == 0
    check(workshop, COCO)


def test_masks_as_lists_of_rles(workshop):
    """Several RLEs form one mask, like several polygons."""
    content = golden.coco()
    halves = [RING & (np.arange(W) < 40), RING & (np.arange(W) >= 40)]
    content["annotations"][2]["segmentation"] = [uncompressed(half) for half in halves]
    content["annotations"][2]["caption"] = "dog"
    assert workshop.run("coco", workshop.write("a.json", content), "--val", "0") == 0
    check(workshop, {"dog": ("train", "dog", 1, RING)})
