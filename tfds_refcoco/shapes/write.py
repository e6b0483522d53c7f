"""Writes the set to disk as RefCOCO's own files are laid out."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from tqdm import tqdm

from tfds_refcoco.shapes.render import encode_jpeg, render
from tfds_refcoco.shapes.sample import Referent, sample
from tfds_refcoco.shapes.scene import OBJECTS, SHAPES, Scene

# Splits are by scene. train and val are alike; testA holds sparse scenes (3-4 objects) and testB
# crowded ones (6-7), as RefCOCO's testA and testB differ by what the images show.
DEFAULT_SCENES: Mapping[str, int] = MappingProxyType(
    {"train": 6000, "val": 300, "testA": 300, "testB": 300}
)


def generate(
    raw_dir: Path,
    *,
    seed: int = 0,
    progress: bool = True,
    scenes: Mapping[str, int] = DEFAULT_SCENES,
) -> None:
    """Writes the set `shapes` in RefCOCO's raw layout; the same seed gives the same bytes.

    Files: `images/train2014/COCO_train2014_<12 digits>.jpg`, `shapes/instances.json` and
    `shapes/refs(unc).p` below `raw_dir`. A scene depends on the seed, its split and its number
    alone, not on how many others are made.

    Args:
        raw_dir: Made if missing; files of the same names are overwritten.
        seed: Any integer from 0 up.
        progress: Whether to show a progress bar.
        scenes: Number of scenes, one image each, of each split.
    """
    unknown = sorted(set(scenes) - set(OBJECTS))
    if unknown:
        raise ValueError(f"unknown splits {unknown}; there are {sorted(OBJECTS)}")
    image_dir = raw_dir / "images" / "train2014"
    image_dir.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    bar = tqdm(total=sum(scenes.values()), desc="shapes", unit="scene", disable=not progress)
    with bar:
        for position, split in enumerate(OBJECTS):
            for number in range(scenes.get(split, 0)):
                rng = np.random.default_rng([seed, position, number])
                scene, referents = sample(rng, split)
                # Fixed by split and number, so that ids mean the same in a set of any size.
                image_id = (position + 1) * 1_000_000 + number
                image = _image_entry(image_id, scene)
                (image_dir / image["file_name"]).write_bytes(encode_jpeg(render(rng, scene)))
                images.append(image)
                annotations += _annotations(image_id, scene)
                refs += _refs(image_id, scene, split, referents)
                bar.update()
    _number(refs)
    out_dir = raw_dir / "shapes"
    out_dir.mkdir(exist_ok=True)
    instances = {
        "info": {"description": "Synthetic shapes in RefCOCO's layout", "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": shape, "supercategory": "shape"}
            for number, shape in enumerate(SHAPES, 1)
        ],
    }
    (out_dir / "instances.json").write_text(json.dumps(instances), encoding="utf-8")
    (out_dir / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))


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
    """COCO annotations of every object, referred to or not."""
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
    """Entries as in refs(unc).p, their ref_id and sent_ids still to be given."""
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
                {"sent_id": -1, "sent": sent, "raw": raw, "tokens": sent.split()}
                for sent, raw in referent.sentences
            ],
        }
        for referent in referents
    ]


def _number(refs: list[dict[str, Any]]) -> None:
    """Numbers references and sentences from 0, in place."""
    sent_id = 0
    for ref_id, ref in enumerate(refs):
        ref["ref_id"] = ref_id
        for sentence in ref["sentences"]:
            sentence["sent_id"] = sent_id
            ref["sent_ids"].append(sent_id)
            sent_id += 1
