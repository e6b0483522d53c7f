"""One scene: its image file, and its entries in RefCOCO's annotation files."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tfds_refcoco.shapes.render import encode_jpeg, render
from tfds_refcoco.shapes.sample import Referent, sample
from tfds_refcoco.shapes.scene import OBJECTS, SHAPES, Scene


def make_scene(image_dir: Path, seed: int, split: str, number: int) -> str:
    """Writes the image of a scene, which depends only on seed, split and number.

    Returns:
        A line of JSON: `image` and `annotations` as in instances.json, and `refs` as in
        refs(unc).p, with placeholders for ref_id and sent_ids.
    """
    position = list(OBJECTS).index(split)
    rng = np.random.default_rng([seed, position, number])
    scene, referents = sample(rng, split)
    # Depends only on split and number, so that ids are stable for datasets of any size.
    image_id = (position + 1) * 1_000_000 + number
    image = _image_entry(image_id, scene)
    (image_dir / image["file_name"]).write_bytes(encode_jpeg(render(rng, scene)))
    entries = {
        "image": image,
        "annotations": _annotations(image_id, scene),
        "refs": _refs(image_id, scene, split, referents),
    }
    return json.dumps(entries)


def _image_entry(image_id: int, scene: Scene) -> dict[str, Any]:
    return {
        "id": image_id,
        "file_name": f"COCO_train2014_{image_id:012d}.jpg",
        "width": scene.width,
        "height": scene.height,
    }


def _annotation_id(image_id: int, index: int) -> int:
    return image_id * 10 + index


def _annotations(image_id: int, scene: Scene) -> list[dict[str, Any]]:
    """Returns COCO annotations of all objects, including objects without expressions."""
    return [
        {
            "id": _annotation_id(image_id, index),
            "image_id": image_id,
            "category_id": SHAPES.index(thing.shape) + 1,
            "bbox": [
                round(thing.x - thing.width / 2, 2),
                round(thing.y - thing.height / 2, 2),
                round(thing.width, 2),
                round(thing.height, 2),
            ],
            "area": round(thing.area, 2),
            "segmentation": [thing.polygon.ravel().tolist()],
            "iscrowd": 0,
        }
        for index, thing in enumerate(scene.things)
    ]


def _refs(
    image_id: int, scene: Scene, split: str, referents: list[Referent]
) -> list[dict[str, Any]]:
    return [
        {
            "ref_id": -1,
            "ann_id": _annotation_id(image_id, referent.index),
            "image_id": image_id,
            "split": split,
            "file_name": f"COCO_train2014_{image_id:012d}_"
            f"{_annotation_id(image_id, referent.index)}.jpg",
            "category_id": SHAPES.index(scene.things[referent.index].shape) + 1,
            "sent_ids": [],
            "sentences": [
                {"sent_id": -1, "sent": sent, "raw": raw, "kind": kind, "tokens": sent.split()}
                for sent, raw, kind in referent.sentences
            ],
        }
        for referent in referents
    ]
