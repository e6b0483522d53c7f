"""Reads people's own data: `custom.json`, described in docs/data.md."""

import io
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from tfds_refcoco import fields, masks
from tfds_refcoco.coco import read_json
from tfds_refcoco.errors import DataError
from tfds_refcoco.files import MAX_IMAGE, RawFile
from tfds_refcoco.images import open_image
from tfds_refcoco.problems import Problems
from tfds_refcoco.raw_types import SPLITS, RawImage, RawObject, RawSentence

_FORMATS = ("JPEG", "PNG")
_MASK_KINDS = ("polygons", "rle", "png")


def read_custom(
    root: Path,
    problems: Problems,
    splits: tuple[str, ...] = SPLITS,
    max_images: int | None = None,
) -> dict[str, tuple[RawImage, ...]]:
    """Returns the images of every split of `root/custom.json`; arguments as of `read_coco`.

    Raises:
      DataError: the file is missing, or a field is absent, mistyped or contradictory.
    """
    file = RawFile(root / "custom.json")
    rows = fields.field(read_json(file), "images", list, f"{file}: top level")
    reader = _Reader(root, file, problems)
    found: dict[str, list[RawImage]] = {split: [] for split in SPLITS}
    for number, row in enumerate(rows):
        where = f"{file}: images[{number}]"
        with problems.skipping():
            split = fields.text(row, "split", where)
            if split not in SPLITS:
                raise DataError(f"{where}.split: {split!r} is none of {', '.join(SPLITS)}.")
            if split in splits and (max_images is None or len(found[split]) < max_images):
                found[split].append(reader.image(row, number, where))
    return {split: tuple(images) for split, images in found.items() if images}


class _Reader:
    """Gives ids, where the file has none, and sees that none is given twice."""

    def __init__(self, root: Path, file: RawFile, problems: Problems) -> None:
        self.root, self.file, self.problems = root, file, problems
        self.seen: dict[str, set[int]] = {"image": set(), "object": set(), "sentence": set()}
        self.categories: dict[str, int] = {"": 0}
        self.refs = 0

    def image(self, row: Any, number: int, where: str) -> RawImage:
        name = fields.text(row, "file", where)
        file = self._inside(name, f"{where}.file")
        image_id = self._id("image", row, where, number)
        picture = open_image(file, file.read(MAX_IMAGE), _FORMATS)
        width, height = picture.size
        rows = fields.field(row, "objects", list, where)
        names = Counter(str(item.get("category", "")) for item in rows if isinstance(item, dict))
        objects = {}
        for i, item in enumerate(rows):
            with self.problems.skipping():
                objects[i] = self._object(item, names, f"{where}.objects[{i}]", height, width)
        position = {i: k for k, i in enumerate(objects)}
        sentences: list[RawSentence] = []
        refs: dict[tuple[int, ...], int] = {}
        for i, item in enumerate(fields.field(row, "sentences", list, where)):
            place = f"{where}.sentences[{i}]"
            with self.problems.skipping():
                text = fields.sentence(item, "text", place)
                for target in (targets := fields.numbers(item, "objects", place)):
                    if target not in position:
                        fault = "faulty" if 0 <= target < len(rows) else "not there"
                        raise DataError(f"{place}.objects: object {target} is {fault}.")
                if len(set(targets)) < len(targets):
                    raise DataError(f"{place}.objects: {targets} names an object twice.")
                key = tuple(position[target] for target in targets)
                sent_id = self._id("sentence", item, place, len(self.seen["sentence"]))
                if key not in refs:
                    refs[key] = self.refs
                    self.refs += 1
                sentences.append(RawSentence(sent_id, refs[key], text, text, key))
        if not sentences:
            raise DataError(f"{where}.sentences: the image has no sentence.")
        return RawImage(
            file=file,
            image_id=image_id,
            file_name=name,
            height=height,
            width=width,
            objects=tuple(objects.values()),
            sentences=tuple(sentences),
            where=where,
            formats=_FORMATS,
        )

    def _object(
        self, row: Any, names: Counter[str], where: str, height: int, width: int
    ) -> RawObject:
        counts = self._mask(fields.field(row, "mask", dict, where), f"{where}.mask", height, width)
        category = fields.text(row, "category", where) if "category" in row else ""
        rle = {"size": [height, width], "counts": counts}
        x, y, w, h = (float(value) for value in coco_mask.toBbox(rle))
        area = masks.area(counts, height, width)
        if not area:
            raise DataError(f"{where}.mask: no pixel lies inside.")
        return RawObject(
            ann_id=self._id("object", row, where, len(self.seen["object"])),
            category_id=self.categories.setdefault(category, len(self.categories)),
            category=category,
            bbox=(x, y, w, h),
            area=float(area),
            iscrowd=0,
            same_category=names[category] if category else 0,
            segmentation=rle | {"counts": counts.decode("ascii")},
        )

    def _mask(self, mask: dict[str, Any], where: str, height: int, width: int) -> bytes:
        kinds = [kind for kind in _MASK_KINDS if kind in mask]
        if len(kinds) != 1:
            raise DataError(f"{where}: expected one of {', '.join(_MASK_KINDS)}.")
        if kinds[0] == "png":
            return masks.encode(self._png(mask, where, height, width))
        value = fields.field(mask, kinds[0], list if kinds[0] == "polygons" else dict, where)
        try:
            return masks.from_segmentation(value, height, width)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error

    def _png(self, mask: dict[str, Any], where: str, height: int, width: int) -> np.ndarray:
        file = self._inside(fields.text(mask, "png", where), f"{where}.png")
        try:
            with Image.open(io.BytesIO(file.read(MAX_IMAGE))) as picture:
                if picture.format != "PNG" or len(picture.getbands()) != 1:
                    raise DataError(f"{file}: expected a PNG with one channel; convert it.")
                if picture.size != (width, height):
                    raise DataError(
                        f"{file}: the mask is {picture.width}x{picture.height} pixels, its image "
                        f"{width}x{height}."
                    )
                values = np.asarray(picture)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{file}: not a readable PNG; write it again.") from error
        return values == fields.number(mask, "value", where) if "value" in mask else values != 0

    def _inside(self, name: str, where: str) -> RawFile:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise DataError(f"{where}: {name!r} is no path below the folder of custom.json.")
        file = RawFile(self.root / path)
        if not file.path.is_file():
            raise DataError(f"{where}: {file} is missing; paths are relative to custom.json.")
        return file

    def _id(self, kind: str, row: Any, where: str, default: int) -> int:
        value = fields.number(row, "id", where) if "id" in row else default
        fields.unique(self.seen[kind], value, f"{where}.id")
        return value
