"""Fixture: custom data that tests modify."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.tfds_refcoco.helpers.custom import POLYGON, H, W


@pytest.fixture
def custom(tmp_path):
    """Returns a folder with two photos and masks of all kinds, and the content of custom.json."""
    root = tmp_path / "mine"
    (root / "photos").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)
    Image.fromarray(pixels).save(root / "photos/a.jpg")
    Image.fromarray(pixels).save(root / "photos/b.png")
    labels = np.zeros((H, W), np.uint8)
    labels[5:9, 10:20], labels[20:25, 3:9] = 1, 7
    Image.fromarray(labels).save(root / "labels.png")
    rle = coco_mask.encode(np.asfortranarray(labels == 1, np.uint8))
    content = {
        "images": [
            {
                "file": "photos/a.jpg",
                "split": "train",
                "objects": [
                    {"mask": {"polygons": [POLYGON]}, "category": "dog"},
                    {"mask": {"rle": {"size": [H, W], "counts": rle["counts"].decode()}}},
                    {"mask": {"png": "labels.png", "value": 7}, "category": "dog"},
                ],
                "sentences": [
                    {"text": "der Hund, größer", "objects": [0]},
                    {"text": "both dogs", "objects": [0, 2]},
                    {"text": "the unicorn", "objects": []},
                    {"text": "左の犬", "objects": [0]},
                ],
            },
            {
                "file": "photos/b.png",
                "split": "val",
                "objects": [{"mask": {"png": "labels.png"}}],
                "sentences": [{"text": "all that is marked", "objects": [0]}],
            },
        ]
    }
    return root, content
