"""Writes the dataset to disk in RefCOCO's layout."""

import contextlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from tfds_refcoco.console import progress_stream
from tfds_refcoco.raw.files import write_bytes
from tfds_refcoco.shapes.processes import make_scenes
from tfds_refcoco.shapes.scene import OBJECTS, SHAPES

# Splits are by scene. train and val have the same distribution; testA has sparse scenes (3-4
# objects) and testB crowded ones (6-7), because RefCOCO's testA and testB also differ in content.
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
    """Writes the dataset `shapes` in RefCOCO's raw layout; deterministic for a given seed.

    Files: `images/train2014/COCO_train2014_<12 digits>.jpg`, `shapes/instances.json` and
    `shapes/refs(unc).p` in `raw_dir`. A scene depends only on the seed, its split and its number.

    Args:
        raw_dir: output folder, created if missing; existing files are overwritten. The annotations
            are removed first and written last: an interrupted run leaves none.
        seed: any non-negative integer.
        progress: whether to show a progress bar.
        scenes: number of scenes (one image each) by split.
    """
    unknown = sorted(set(scenes) - set(OBJECTS))
    if unknown:
        raise ValueError(f"scenes: unknown splits {unknown}; expected {sorted(OBJECTS)}")
    image_dir = raw_dir / "images" / "train2014"
    image_dir.mkdir(parents=True, exist_ok=True)
    out_dir = raw_dir / "shapes"
    # If this process is killed, annotations of an older seed must not remain with new images.
    for name in ("refs(unc).p", "instances.json"):
        (out_dir / name).unlink(missing_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    bar = tqdm(
        total=sum(scenes.values()),
        desc="shapes",
        unit="scene",
        disable=not progress,
        file=progress_stream(),
    )
    with bar, contextlib.closing(make_scenes(image_dir, seed, scenes)) as made:
        for line in made:
            entries = json.loads(line)
            images.append(entries["image"])
            annotations += entries["annotations"]
            refs += entries["refs"]
            bar.update()
    _number(refs)
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
    write_bytes(out_dir / "instances.json", json.dumps(instances).encode())
    write_bytes(out_dir / "refs(unc).p", pickle.dumps(refs, protocol=2))


def _number(refs: list[dict[str, Any]]) -> None:
    """Numbers refs and sentences from 0, in place."""
    sent_id = 0
    for ref_id, ref in enumerate(refs):
        ref["ref_id"] = ref_id
        for sentence in ref["sentences"]:
            sentence["sent_id"] = sent_id
            ref["sent_ids"].append(sent_id)
            sent_id += 1
