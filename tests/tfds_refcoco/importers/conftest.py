"""Fixtures: photos to annotate, and the result of an import."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfds_refcoco import masks
from tfds_refcoco.__main__ import main
from tfds_refcoco.raw.read import read_raw

SIZE = (60, 40)  # width, height


class Workshop:
    """A folder with a tool's files and distinct photos `images/0.jpg`, `images/1.jpg`, ..."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root, root / "raw"
        (root / "images").mkdir()
        for i in range(4):
            self.photo(f"images/{i}.jpg", i)

    def photo(self, name: str, seed: int, size=SIZE, **options) -> Path:
        pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(self.root / name, **options)
        return self.root / name

    def write(self, name: str, content: object) -> Path:
        text = content if isinstance(content, str) else json.dumps(content)
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text, encoding="utf-8")
        return self.root / name

    def run(self, *arguments: object) -> int:
        return main(["import", *map(str, arguments), "--out", str(self.out)])

    def result(self):
        """Returns split, category, same_category and masks of the targets by sentence."""
        result = {}
        for split, images in read_raw(self.out, "custom").items():
            for image in images:
                for sentence in image.sentences:
                    parts = []
                    for i in sentence.targets:
                        item = image.objects[i]
                        mask = masks.from_segmentation(item.segmentation, image.height, image.width)
                        parts.append(masks.decode(mask, image.height, image.width) > 0)
                        result[sentence.sent] = split, item.category, item.same_category, parts
                    if not parts:
                        result[sentence.sent] = split, None, None, parts
        return result

    def content(self):
        return json.loads((self.out / "custom.json").read_text())


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)
