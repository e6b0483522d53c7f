"""Reads custom data: `custom.json`, described in docs/data.md."""

import io
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from tfds_refcoco import masks
from tfds_refcoco.errors import DataError
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.coco import read_json, read_split
from tfds_refcoco.raw.custom_writer import COPIES
from tfds_refcoco.raw.files import MAX_IMAGE, RawFile, find_file
from tfds_refcoco.raw.images import STORED, open_image
from tfds_refcoco.raw.problems import Problems
from tfds_refcoco.raw.sources import SOURCES, find_annotations
from tfds_refcoco.raw.types import SPLITS, RawImage, RawObject, RawSentence

COPIED = "images are copies or views: overlaps with other datasets cannot be detected"
_MASK_KINDS = ("polygons", "rle", "png")


def read_custom(
    root: Path,
    problems: Problems,
    splits: tuple[str, ...] = (),
    max_images: int | None = None,
) -> dict[str, tuple[RawImage, ...]]:
    """Returns the images of every split of `root/custom.json`; see `read_coco` for the arguments.

    Raises:
      DataError: the file is missing, or a field is missing, mistyped or contradictory.
    """
    file = find_annotations(root, SOURCES["custom"], "custom.json")
    content = read_json(file, "fix it")
    fields.only(content, ("images", "image_dir"), f"{file}: top level")
    folders = [root]
    if isinstance(content, dict) and "image_dir" in content:  # relative to custom.json, or absolute
        folders.append(root / fields.text(content, "image_dir", f"{file}: top level"))
        if not folders[1].is_dir():
            raise DataError(f"{file}: top level.image_dir: {folders[1]} is not a folder.")
    rows = fields.field(content, "images", list, f"{file}: top level")
    reader = _Reader(folders, _Numbers(rows), problems)
    images_of: dict[str, list[RawImage]] = {split: [] for split in SPLITS}
    named: Counter[str] = Counter()
    for number, row in enumerate(rows):
        where = f"{file}: images[{number}]"
        with problems.skipping():
            split = read_split(row, where)
            named[split] += 1
            if (splits and split not in splits) or (max_images and named[split] > max_images):
                continue
            images_of[split].append(reader.image(row, number, where))
    return {split: tuple(images) for split, images in images_of.items() if images}


class _Numbers:
    """Default ids: positions in the complete file, independent of the splits that are built."""

    def __init__(self, rows: list[Any]) -> None:
        self.categories: dict[str, int] = {"": 0}
        # Whether an item of each kind has an id; then all must have one.
        self.has_ids = {"image": False, "object": False, "sentence": False}
        self.first: list[dict[str, int]] = []  # first object and sentence of each image
        objects = sentences = 0
        for row in rows:
            self.first.append({"object": objects, "sentence": sentences})
            parts = {"image": [row], "object": _list(row, "objects")}
            parts["sentence"] = _list(row, "sentences")
            for kind, items in parts.items():
                self.has_ids[kind] |= any(isinstance(item, dict) and "id" in item for item in items)
            for item in parts["object"]:
                name = item.get("category", "") if isinstance(item, dict) else ""
                if isinstance(name, str):
                    self.categories.setdefault(name, len(self.categories))
            objects, sentences = objects + len(parts["object"]), sentences + len(parts["sentence"])


def _list(row: Any, name: str) -> list[Any]:
    """Returns the list `row[name]`, or [] if invalid: `_Reader` reports the error."""
    value = row.get(name) if isinstance(row, dict) else None
    return value if isinstance(value, list) else []


class _Reader:
    """Reads images and checks that ids are unique."""

    def __init__(self, folders: list[Path], numbers: _Numbers, problems: Problems) -> None:
        self.folders, self.numbers, self.problems = folders, numbers, problems
        self.seen: dict[str, set[int]] = {kind: set() for kind in numbers.has_ids}

    def image(self, row: Any, number: int, where: str) -> RawImage:
        """Reads image `number` of the file."""
        fields.only(row, ("file", "split", "id", "objects", "sentences"), where)
        name = fields.text(row, "file", where)
        if PurePosixPath(name).parts[:1] == (COPIES,):
            self.problems.notes[COPIED] += 1
        file = self._inside(name, f"{where}.file", self.folders)
        image_id = self._id("image", row, where, number)
        picture = open_image(file, file.read(MAX_IMAGE), STORED)
        width, height = picture.size
        rows = fields.field(row, "objects", list, where)
        names = Counter(str(item.get("category", "")) for item in rows if isinstance(item, dict))
        objects = {}
        for i, item in enumerate(rows):
            with self.problems.skipping():
                place = f"{where}.objects[{i}]"
                fields.only(item, ("mask", "category", "same_category", "id"), place)
                ann_id = self._id("object", item, place, self.numbers.first[number]["object"] + i)
                objects[i] = self._object(item, ann_id, names, place, height, width)
        position = {i: k for k, i in enumerate(objects)}
        sentences: list[RawSentence] = []
        refs: dict[tuple[int, ...], int] = {}
        for i, item in enumerate(fields.field(row, "sentences", list, where)):
            place = f"{where}.sentences[{i}]"
            with self.problems.skipping():
                fields.only(item, ("text", "objects", "kind", "id"), place)
                text = fields.sentence(item, "text", place)
                for target in (targets := fields.numbers(item, "objects", place)):
                    if target not in position:
                        fault = "invalid" if 0 <= target < len(rows) else "out of range"
                        raise DataError(f"{place}.objects: object {target} is {fault}.")
                if len(set(targets)) < len(targets):
                    raise DataError(f"{place}.objects: {targets} names an object twice.")
                key = tuple(position[target] for target in targets)
                default = self.numbers.first[number]["sentence"] + i
                sent_id = self._id("sentence", item, place, default)
                # Sentences with the same objects share a ref, whose id is the first sentence's.
                ref_id = refs.setdefault(key, sent_id)
                kind = fields.text(item, "kind", place) if "kind" in item else ""
                sentences.append(RawSentence(sent_id, ref_id, text, text, key, kind))
        if not sentences:
            raise DataError(f"{where}.sentences: the image has no valid sentence.")
        return RawImage(
            file=file,
            image_id=image_id,
            file_name=name,
            height=height,
            width=width,
            objects=tuple(objects.values()),
            sentences=tuple(sentences),
            where=where,
            formats=STORED,
        )

    def _object(
        self,
        row: Any,
        ann_id: int,
        names: Counter[str],
        where: str,
        height: int,
        width: int,
    ) -> RawObject:
        counts = self._mask(fields.field(row, "mask", dict, where), f"{where}.mask", height, width)
        category = fields.text(row, "category", where) if "category" in row else ""
        rle = {"size": [height, width], "counts": counts}
        x, y, w, h = (float(value) for value in coco_mask.toBbox(rle))
        area = masks.area(counts, height, width)
        if not area:
            raise DataError(f"{where}.mask: contains no pixel of the image.")
        return RawObject(
            ann_id=ann_id,
            category_id=self.numbers.categories[category],
            category=category,
            bbox=(x, y, w, h),
            area=float(area),
            iscrowd=0,
            same_category=self._same_category(row, names, category, where),
            segmentation=rle | {"counts": counts.decode("ascii")},
        )

    def _same_category(
        self, row: dict[str, Any], names: Counter[str], category: str, where: str
    ) -> int:
        listed = names[category] if category else 0
        if "same_category" not in row:
            return listed
        value = fields.number(row, "same_category", where)
        if not max(listed, 1) <= value < 1 << 31:
            raise DataError(
                f"{where}.same_category: expected at least {max(listed, 1)}, the number of listed "
                f"objects of its category in the image, and less than 2^31, got {value}."
            )
        return value

    def _mask(self, mask: dict[str, Any], where: str, height: int, width: int) -> bytes:
        fields.only(mask, (*_MASK_KINDS, "value"), where)
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

    def _png(self, mask: dict[str, Any], where: str, height: int, width: int) -> NDArray[np.bool]:
        file = self._inside(fields.text(mask, "png", where), f"{where}.png", self.folders[:1])
        try:
            with Image.open(io.BytesIO(file.read(MAX_IMAGE)), formats=STORED) as picture:
                if picture.format != "PNG" or len(picture.getbands()) != 1:
                    raise DataError(f"{file}: expected a PNG with one channel; convert it.")
                if picture.size != (width, height):
                    raise DataError(
                        f"{file}: the mask is {picture.width}x{picture.height} pixels, but the "
                        f"image is {width}x{height}."
                    )
                values = np.asarray(picture)
        except DataError:
            raise
        except Image.DecompressionBombError as error:
            raise DataError(f"{file}: too large ({error}); downscale it.") from error
        except Exception as error:  # decoders raise any type
            raise DataError(f"{file}: not a readable PNG; save it again.") from error
        inside: NDArray[np.bool] = (
            values == fields.number(mask, "value", where) if "value" in mask else values != 0
        )
        return inside

    def _inside(self, name: str, where: str, folders: list[Path]) -> RawFile:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise DataError(
                f"{where}: {name!r} is not a relative path inside the folder of custom.json or its "
                "image_dir."
            )
        for folder in folders:
            if file := find_file(folder, str(path)):
                return RawFile(file)
        rule = "paths are relative to custom.json" + ", or to image_dir" * (len(folders) > 1)
        raise DataError(f"{where}: {folders[-1] / path} does not exist; {rule}.")

    def _id(self, kind: str, row: Any, where: str, default: int) -> int:
        if self.numbers.has_ids[kind] and "id" not in row:
            raise DataError(f"{where}.id: missing; add an id to every {kind} or to none.")
        value = fields.number(row, "id", where) if "id" in row else default
        fields.unique(self.seen[kind], value, f"{where}.id")
        return value
