"""Fixture: a small synthetic raw dataset that tests modify."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZE = (40, 30)  # width, height


@dataclass
class RawSet:
    """Raw RefCOCO content in memory: edit it, then `write` it."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    refs: list[dict[str, Any]] = field(default_factory=list)

    def write(self, root: Path, folder: str = "refcoco", images: str = "images/train2014") -> Path:
        (root / images).mkdir(parents=True)
        (root / folder).mkdir()
        for row in self.images:
            rng = np.random.default_rng(row["id"])
            pixels = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / images / row["file_name"], "JPEG")
        content = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": [{"id": 1, "name": "person"}],
        }
        (root / folder / "instances.json").write_text(json.dumps(content))
        (root / folder / "refs(unc).p").write_bytes(pickle.dumps(self.refs, 2))
        return root


@pytest.fixture
def raw_set() -> RawSet:
    """Three images, two in train and one in val, with two refs and three sentences each."""
    made = RawSet()
    for i in range(3):
        name = f"COCO_train2014_{i:012d}.jpg"
        made.images.append({"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for k in range(2):
            ann_id = 10 * i + k
            made.annotations.append(
                {
                    "id": ann_id,
                    "image_id": i,
                    "category_id": 1,
                    "bbox": [2.0, 3.0, 10.0, 8.0],
                    "area": 80.0,
                    "segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]],
                    "iscrowd": 0,
                }
            )
            sentences = [
                {"sent_id": 100 * i + 10 * k + n, "sent": f"thing {i}{k}{n}", "raw": f"Thing {n}!"}
                for n in range(1 + k)
            ]
            made.refs.append(
                {
                    "ref_id": ann_id,
                    "ann_id": ann_id,
                    "image_id": i,
                    "category_id": 1,
                    "split": "val" if i == 2 else "train",
                    "file_name": f"COCO_train2014_{i:012d}_{ann_id}.jpg",
                    "sent_ids": [s["sent_id"] for s in sentences],
                    "sentences": sentences,
                }
            )
    return made


@pytest.fixture
def write_raw(raw_set: RawSet, tmp_path: Path) -> Callable[..., Path]:
    """Writes the dataset as edited by the test, and returns its raw folder."""
    return lambda **layout: raw_set.write(tmp_path / "raw", **layout)
