"""Golden files of each import format, written by hand from its documentation."""

import base64
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from tests.tfds_refcoco.helpers.annotations import (
    RING,
    SQUARE,
    H,
    W,
    cvat,
    label_studio,
    raster,
    uncompressed,
)
from tests.tfds_refcoco.importers.conftest import Workshop

TRIANGLE = [40, 8, 55.5, 30.25, 35, 33]
# By sentence: split, category, same_category, mask.
COCO = {
    "cup on the left": ("train", "cup", 3, raster(SQUARE)),
    "cup on the right": ("train", "cup", 3, raster(TRIANGLE, [2, 2, 8, 2, 8, 9])),
    "dog, the one with a hole": ("val", "dog", 1, RING),
}
PATCH = np.zeros((10, 20), np.uint8)  # a labelme mask in the box at 30, 5
PATCH[2:9, 3:15] = 1
PATCH[4:6, 6:9] = 0


def coco() -> dict[str, Any]:
    """Images 7 and 8 with three cups, a dog with a hole, a crowd, and a backslash in a name."""
    return {
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


def _coco(workshop: Workshop) -> list[object]:
    rows = (
        "\ufeffann_id,expression,split\n"
        "11,cup on the left,training\n12,cup on the right,training\n"
        '13,"dog, the one with a hole",valid\n14,the crowd,training\n'
    )
    file = workshop.write("instances.json", coco())
    return ["coco", file, "--expressions", workshop.write("e.csv", rows)]


def _refer(workshop: Workshop) -> list[object]:
    content = coco()
    content["images"][0]["file_name"] = "0.jpg"
    # RRSIS-D uses lists of compressed RLEs.
    rle = coco_mask.encode(np.asfortranarray(RING, np.uint8))
    rle["counts"] = rle["counts"].decode()
    content["annotations"][2]["segmentation"] = [rle]
    workshop.write("instances.json", content)
    rows = [
        (11, 7, "train", "cup on the left"),
        (12, 7, "train", "cup on the right"),
        (13, 8, "validation", "dog, the one with a hole"),
        (13, 8, "testC", "dog"),
    ]
    refs = [
        {
            "ref_id": 5 + i,
            "ann_id": ann_id,
            "image_id": image_id,
            "split": split,
            "category_id": 1,
            "sentences": [{"sent_id": 20 + i, "sent": text, "raw": text.upper(), "tokens": []}],
        }
        for i, (ann_id, image_id, split, text) in enumerate(rows)
    ]
    (workshop.root / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    return ["refer", workshop.root, "--split", "testC=-"]


def labelme(shapes: list[dict[str, Any]], number: int = 0) -> dict[str, Any]:
    """A labelme file for the photo `images/<number>.jpg`."""
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [{"group_id": None, "mask": None, "flags": {}} | shape for shape in shapes],
        "imagePath": f"..\\images\\{number}.jpg",
        "imageData": None,
        "imageHeight": H,
        "imageWidth": W,
    }


def _labelme(workshop: Workshop) -> list[object]:
    file = io.BytesIO()
    Image.fromarray(PATCH).save(file, "PNG")
    shapes: list[dict[str, Any]] = [
        {"label": "cup", "points": np.reshape(SQUARE, (-1, 2)).tolist(), "shape_type": "polygon"},
        {"label": "cup", "points": [[58, 38], [50, 30]], "shape_type": "rectangle"},
        {"label": "plate", "points": [[20.5, 20], [20.5, 28]], "shape_type": "circle"},
        {
            "label": "dog",
            "points": [[30, 5], [49, 14]],
            "shape_type": "mask",
            "mask": base64.b64encode(file.getvalue()).decode(),
            "flags": {"truncated": True},
        },
        {"label": "rope", "points": [[1, 1], [9, 9]], "shape_type": "linestrip"},
        {"label": "bench", "points": [[1, 1], [9, 1], [9, 5]], "group_id": 0},
        {"label": "bench", "points": [[1, 20], [9, 20], [9, 25]], "group_id": 0},
    ]
    texts = ["square cup\nleft cup\n", "cup in the corner", "round plate", "the dog", "rope"]
    for shape, text in zip(shapes, [*texts, "bench", ""], strict=True):
        shape["description"] = text
    workshop.write("labels/0.json", labelme(shapes))
    bowl = {"label": "bowl", "points": [[5, 5], [20, 5], [12, 30]], "description": "the bowl"}
    workshop.write("labels/1.json", labelme([bowl], 1))
    return ["labelme", workshop.root / "labels", "--val", "0.5", "--seed", "1"]


def _cvat(workshop: Workshop) -> list[object]:
    workshop.write("annotations.xml", cvat())
    return ["cvat", workshop.root]


def _label_studio(workshop: Workshop) -> list[object]:
    file = workshop.write("export.json", label_studio())
    return ["label-studio", file, "--val", "0.5", "--seed", "1"]


GOLDEN: dict[str, Callable[[Workshop], list[object]]] = {
    "coco": _coco,
    "refer": _refer,
    "labelme": _labelme,
    "cvat": _cvat,
    "label-studio": _label_studio,
}
"""By format: a function that writes the files and returns the arguments of `import`."""
