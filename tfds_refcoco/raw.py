"""Reads the raw RefCOCO layout, as everyone keeps it, into typed records.

    images/train2014/COCO_train2014_000000000154.jpg     (or another folder of `IMAGE_FOLDERS`)
    refcoco/instances.json     refcoco/refs(unc).p       (or another set of `SOURCES`)

Every field that a record needs is checked here, and an error names file, field and mend.
"""

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tfds_refcoco import fields
from tfds_refcoco.errors import DataError
from tfds_refcoco.pickles import read_pickle


@dataclass(frozen=True)
class Source:
    """Where the annotations of one data set lie: the folder names tried, and the refs file."""

    folders: tuple[str, ...]
    refs: str


SOURCES = {
    "refcoco_unc": Source(("refcoco",), "refs(unc).p"),
    "refcoco_google": Source(("refcoco",), "refs(google).p"),
    "refcocoplus_unc": Source(("refcoco+", "refcocoplus"), "refs(unc).p"),
    "refcocog_umd": Source(("refcocog",), "refs(umd).p"),
    "refcocog_google": Source(("refcocog",), "refs(google).p"),
    "shapes": Source(("shapes",), "refs(unc).p"),
}
SPLITS = ("train", "val", "test", "testA", "testB")
IMAGE_FOLDERS = (
    "images/train2014",
    "images/train2017",
    "images/mscoco/images/train2014",
    "images",
)
_COCO_NAME = re.compile(r"(?:COCO_train2014_)?(\d{12})\.jpg")
_FETCH_REFS = "Fetch it from https://github.com/lichengunc/refer (section Download)."
_MAKE_SHAPES = "Make it with `python -m tfds_refcoco generate`."
_FETCH_IMAGES = (
    "Fetch http://images.cocodataset.org/zips/train2014.zip (or train2017.zip, the same pictures) "
    "and unpack it under images/"
)


@dataclass(frozen=True)
class RawObject:
    """One referred object. `bbox` is COCO's x, y, width, height in pixels."""

    ref_id: int
    ann_id: int
    category_id: int
    category: str
    bbox: tuple[float, float, float, float]
    area: float
    segmentation: Any
    iscrowd: int


@dataclass(frozen=True)
class RawSentence:
    """One expression: `object` is the position of its object in the image's `objects`."""

    sent_id: int
    object: int
    sent: str
    raw: str


@dataclass(frozen=True)
class RawImage:
    """One image of a split with its referred objects and their sentences; sizes in pixels."""

    path: Path
    image_id: int
    file_name: str
    height: int
    width: int
    objects: tuple[RawObject, ...]
    sentences: tuple[RawSentence, ...]


def read_raw(root: Path, dataset: str) -> dict[str, tuple[RawImage, ...]]:
    """Returns the images of every split of `dataset`, found under the raw folder `root`.

    Splits come in the order of `SPLITS`, images in the order in which the refs first name them.

    Raises:
      DataError: a file or image is missing, or a field is absent, mistyped or contradictory.
    """
    source = check_dataset(dataset)
    instances_path = _find(root, source, "instances.json")
    refs_path = _find(root, source, source.refs)
    images, annotations, categories = _read_instances(instances_path)
    refs = read_pickle(refs_path)
    if not isinstance(refs, list) or not refs:
        raise DataError(f"{refs_path}: expected a non-empty list of refs.")

    grouped: dict[str, dict[int, list[tuple[RawObject, list[dict[str, Any]]]]]] = {}
    ref_ids: set[int] = set()
    sent_ids: set[int] = set()
    for number, ref in enumerate(refs):
        where = f"{refs_path}: refs[{number}]"
        ref_id = fields.number(ref, "ref_id", where)
        fields.unique(ref_ids, ref_id, f"{where}.ref_id")
        split = fields.text(ref, "split", where)
        if split not in SPLITS:
            raise DataError(f"{where}.split: {split!r} is none of {', '.join(SPLITS)}.")
        ann_id, image_id = (
            fields.number(ref, "ann_id", where),
            fields.number(ref, "image_id", where),
        )
        if ann_id not in annotations:
            raise DataError(f"{where}.ann_id: {ann_id} is not in {instances_path}.")
        if image_id not in images:
            raise DataError(f"{where}.image_id: {image_id} is not in {instances_path}.")
        position, annotation = annotations[ann_id]
        ann_where = f"{instances_path}: annotations[{position}]"
        if fields.number(annotation, "image_id", ann_where) != image_id:
            raise DataError(f"{where}.image_id: {image_id} is not the image of ann_id {ann_id}.")
        sentences = fields.field(ref, "sentences", list, where)
        if not sentences:
            raise DataError(f"{where}.sentences: the ref has no sentence.")
        for i, sentence in enumerate(sentences):
            sent_where = f"{where}.sentences[{i}]"
            fields.unique(
                sent_ids, fields.number(sentence, "sent_id", sent_where), f"{sent_where}.sent_id"
            )
            fields.text(sentence, "sent", sent_where)
            fields.text(sentence, "raw", sent_where)
        item = (_object(ref_id, annotation, categories, ann_where), sentences)
        grouped.setdefault(split, {}).setdefault(image_id, []).append(item)

    used = {image_id for split_items in grouped.values() for image_id in split_items}
    paths = _find_images(root, [images[i] for i in images if i in used], instances_path)
    return {
        split: tuple(
            _image(images[image_id], paths[image_id], items)
            for image_id, items in grouped[split].items()
        )
        for split in SPLITS
        if split in grouped
    }


def read_jpeg(image: RawImage) -> bytes:
    """Returns the bytes of the image's JPEG file, untouched.

    Raises:
      DataError: the file is no JPEG or its size is not the one of instances.json.
    """
    try:
        data = image.path.read_bytes()
        with Image.open(io.BytesIO(data)) as header:  # reads the header only
            kind, size = header.format, header.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{image.path}: not a readable JPEG; fetch the file again.") from error
    if kind != "JPEG":
        raise DataError(f"{image.path}: a {kind} file, expected JPEG; fetch the file again.")
    if size != (image.width, image.height):
        raise DataError(
            f"{image.path}: the picture is {size[0]}x{size[1]} pixels, instances.json says "
            f"{image.width}x{image.height} (image id {image.image_id}); fetch the original file."
        )
    return data


def check_dataset(dataset: str) -> Source:
    """Returns the source of `dataset`; raises DataError if no such set is known."""
    if dataset not in SOURCES:
        raise DataError(f"dataset: {dataset!r} is none of {', '.join(SOURCES)}.")
    return SOURCES[dataset]


def _find(root: Path, source: Source, name: str) -> Path:
    tried = [root / folder / name for folder in source.folders]
    for path in tried:
        if path.is_file():
            return path
    listed = "\n".join(f"  {path}" for path in tried)
    mend = _MAKE_SHAPES if source is SOURCES["shapes"] else _FETCH_REFS
    raise DataError(f"{name} not found. Tried:\n{listed}\n{mend}")


def _find_images(
    root: Path, rows: Iterable[dict[str, Any]], instances_path: Path
) -> dict[int, Path]:
    """Returns the path of each image by id; folders are listed once, not asked per image."""
    folders = [root / folder for folder in IMAGE_FOLDERS]
    listings = [(f, {path.name for path in f.iterdir()}) for f in folders if f.is_dir()]
    paths: dict[int, Path] = {}
    missing = []
    for row in rows:
        names = [row["file_name"]]
        if match := _COCO_NAME.fullmatch(row["file_name"]):
            names += [f"COCO_train2014_{match[1]}.jpg", f"{match[1]}.jpg"]
        found = [folder / name for name in names for folder, have in listings if name in have]
        if found:
            paths[row["id"]] = found[0]
        else:
            missing.append(row["file_name"])
    if missing:
        listed = "\n".join(f"  {folder}" for folder in folders)
        raise DataError(
            f"{len(missing)} images named in {instances_path} are missing, the first is "
            f"{missing[0]}. Looked in:\n{listed}\n{_FETCH_IMAGES}."
        )
    return paths


def _read_instances(
    path: Path,
) -> tuple[dict[int, dict[str, Any]], dict[int, tuple[int, dict[str, Any]]], dict[int, str]]:
    """Returns the images by id, (position, annotation) by id and category names by id."""
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a readable JSON file ({error}); fetch it again.") from error
    images: dict[int, dict[str, Any]] = {}
    for i, row in enumerate(fields.field(content, "images", list, f"{path}: top level")):
        where = f"{path}: images[{i}]"
        image_id = fields.number(row, "id", where)
        if image_id in images:
            raise DataError(f"{where}.id: {image_id} appears twice.")
        fields.text(row, "file_name", where)
        for name in ("height", "width"):
            if not 0 < fields.number(row, name, where) < 1 << 15:
                raise DataError(f"{where}.{name}: {row[name]} is no size in pixels.")
        images[image_id] = row
    annotations: dict[int, tuple[int, dict[str, Any]]] = {}
    for i, row in enumerate(fields.field(content, "annotations", list, f"{path}: top level")):
        ann_id = fields.number(row, "id", f"{path}: annotations[{i}]")
        if ann_id in annotations:
            raise DataError(f"{path}: annotations[{i}].id: {ann_id} appears twice.")
        annotations[ann_id] = (i, row)
    categories = {}
    for i, row in enumerate(fields.field(content, "categories", list, f"{path}: top level")):
        where = f"{path}: categories[{i}]"
        categories[fields.number(row, "id", where)] = fields.text(row, "name", where)
    return images, annotations, categories


def _object(
    ref_id: int, annotation: dict[str, Any], categories: dict[int, str], where: str
) -> RawObject:
    category_id = fields.number(annotation, "category_id", where)
    if category_id not in categories:
        raise DataError(f"{where}.category_id: {category_id} is not among the categories.")
    box = fields.field(annotation, "bbox", list, where)
    if len(box) != 4 or not all(fields.is_finite(value) for value in box) or min(box[2:]) < 0:
        raise DataError(f"{where}.bbox: {box} is not [x, y, width, height] in pixels.")
    area = fields.field(annotation, "area", (int, float), where)
    if not fields.is_finite(area) or area <= 0:
        raise DataError(f"{where}.area: {area} is not a positive number.")
    x, y, width, height = (float(value) for value in box)
    return RawObject(
        ref_id=ref_id,
        ann_id=annotation["id"],
        category_id=category_id,
        category=categories[category_id],
        bbox=(x, y, width, height),
        area=float(area),
        segmentation=fields.field(annotation, "segmentation", (list, dict), where),
        iscrowd=fields.number(annotation, "iscrowd", where) if "iscrowd" in annotation else 0,
    )


def _image(
    row: dict[str, Any], path: Path, items: list[tuple[RawObject, list[dict[str, Any]]]]
) -> RawImage:
    return RawImage(
        path=path,
        image_id=row["id"],
        file_name=row["file_name"],
        height=row["height"],
        width=row["width"],
        objects=tuple(item for item, _ in items),
        sentences=tuple(
            RawSentence(sentence["sent_id"], position, sentence["sent"], sentence["raw"])
            for position, (_, sentences) in enumerate(items)
            for sentence in sentences
        ),
    )
