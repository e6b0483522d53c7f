"""Import of COCO instances, with expressions in a separate file or an annotation field."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfds_refcoco.errors import DataError
from tfds_refcoco.importers.common import (
    TEXT_NAMES,
    add_sentences,
    find_image,
    find_json,
    note_other_texts,
    split_texts,
    text_field,
)
from tfds_refcoco.importers.table import read_table
from tfds_refcoco.importers.types import ImportedImage, ImportedObject, ImportedSentence, Part
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.coco import Instances, read_instances
from tfds_refcoco.raw.files import RawFile
from tfds_refcoco.raw.problems import Problems


def read_coco_export(
    path: Path,
    image_dir: Path | None,
    expressions: Path | None,
    text: str | None,
    notes: Counter[str],
    *,
    crowds: bool = True,
) -> list[ImportedImage]:
    """Reads a COCO annotation file, or one file per split.

    Args:
      path: the file, or a folder with `annotations/instances_*.json` (COCO and CVAT), with other
        JSON files, or with a JSON file in each subfolder (Roboflow).
      image_dir: folder of the images; by default folders near the file are searched.
      expressions: CSV or JSON of expressions by annotation id. If None, they are read from a field
        of the annotations or of their `attributes`, as in CVAT's exports.
      text: name of that field or column; by default one of `TEXT_NAMES`.
      notes: counts of ignored items.
      crowds: whether `iscrowd` marks groups; CVAT sets it for every mask.

    Raises:
      DataError: a file or field is invalid, or there are no expressions.
    """
    read = []
    files = _files(path, expressions)
    for file, subset in files:
        split = subset if len(files) > 1 else None
        instances = read_instances(RawFile(file), Problems())
        images = _images(instances, file, subset, split)
        _add_objects(instances, images, crowds)
        if expressions is None:
            _add_own_sentences(instances, images, text, notes)
        read.append((instances, images))
    if expressions is not None:
        _add_sentences(*_merge(read, path), expressions, text, notes)
    for (file, subset), (instances, images) in zip(files, read, strict=True):
        _find_images(instances, images, file, image_dir, subset)
    return [image for _, images in read for image, _ in images.values()]


_Images = dict[int, tuple[ImportedImage, dict[int, int]]]  # by id; positions by annotation id


def _files(path: Path, expressions: Path | None) -> list[tuple[Path, str]]:
    """Returns the annotation files, each with the name of its split."""
    if not path.is_dir():
        return [(path, path.stem.removeprefix("instances_"))]
    for pattern in ("annotations/instances_*.json", "instances_*.json", "*.json"):
        files = [file for file in find_json(path, pattern) if file != expressions]
        if files:
            return [(file, file.stem.removeprefix("instances_")) for file in files]
    files = find_json(path, "*/*.json")
    if not files:
        raise DataError(
            f"{path}: the folder contains no annotations/instances_*.json and no other JSON file."
        )
    return [(file, file.parent.name) for file in files]


def _images(instances: Instances, file: Path, subset: str, split: str | None) -> _Images:
    images: _Images = {}
    for image_id, row in instances.images.items():
        where, name = f"{file}: image id {image_id}", f"{subset}/{row['file_name']}"
        size = row["width"], row["height"]
        image = ImportedImage(Path(name), name, size, split, where, image_id=image_id)
        images[image_id] = image, {}
    return images


def _find_images(
    instances: Instances, images: _Images, file: Path, image_dir: Path | None, subset: str
) -> None:
    """Finds the files of images with sentences; other images may be missing."""
    parent = file.parent
    roots = [image_dir] if image_dir else [parent, parent / "images", parent.parent / "images"]
    folders = [*(root / subset for root in roots), *roots]  # CVAT creates a folder per subset
    for image_id, (image, _) in images.items():
        if image.sentences:
            name = instances.images[image_id]["file_name"]
            image.path = find_image(name, folders, image.where)


def _merge(read: Sequence[tuple[Instances, _Images]], path: Path) -> tuple[Instances, _Images]:
    """Merges the files of a folder; raises DataError if they share an id."""
    if len(read) == 1:
        return read[0]
    instances, images = Instances(RawFile(path)), dict[int, Any]()
    for one, of_one in read:
        shared = instances.annotations.keys() & one.annotations.keys()
        if shared := shared or images.keys() & of_one.keys():
            raise DataError(
                f"{path}: several of its files have the id {min(shared)}, so expressions by id are "
                "ambiguous; import each file separately."
            )
        instances.annotations |= one.annotations
        images |= of_one
    return instances, images


def _add_objects(instances: Instances, images: _Images, crowds: bool) -> None:
    for ann_id, (position, row) in instances.annotations.items():
        where = f"{instances.file}: annotations[{position}]"
        image_id = fields.number(row, "image_id", where)
        if image_id not in images:
            raise DataError(f"{where}.image_id: no image has the id {image_id}.")
        category = fields.number(row, "category_id", where)
        if category not in instances.categories:
            known = ", ".join(map(str, sorted(instances.categories)[:5]))
            raise DataError(
                f"{where}.category_id: {category} is not among the category ids {known}, …"
            )
        image, positions = images[image_id]
        positions[ann_id] = len(image.objects)
        image.objects.append(
            ImportedObject(
                segmentation_parts(row, where),
                instances.categories[category],
                where,
                ann_id,
                crowds and bool(row.get("iscrowd")),
            )
        )


def segmentation_parts(row: Mapping[str, Any], where: str) -> list[Part]:
    """Returns an annotation's segmentation: polygons, RLE or a list of RLEs; [] for a box."""
    if not row.get("segmentation"):
        return []
    value: Any = fields.field(dict(row), "segmentation", (list, dict), where)
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return list(value)
    return [value]


def _add_own_sentences(
    instances: Instances, images: _Images, text: str | None, notes: Counter[str]
) -> None:
    names: Counter[str] = Counter()
    for ann_id, (position, row) in instances.annotations.items():
        where = f"{instances.file}: annotations[{position}]"
        attributes: dict[str, Any] = row.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise DataError(f"{where}.attributes: expected a dictionary.")
        both = {**row, **attributes}
        names.update(both.keys())
        name = text_field(both, text)
        image, positions = images[row["image_id"]]
        texts = split_texts(both[name], f"{where}.{name}") if name else ()
        add_sentences(image, texts, positions[ann_id], notes)
        note_other_texts(row, name, notes)
        spare = set(attributes) - {name, "occluded", "rotation"}
        notes["attributes of objects were ignored"] += len(spare)
    if not any(image.sentences for image, _ in images.values()):
        wanted = text or " or ".join(TEXT_NAMES)
        raise DataError(
            f"{instances.file}: no annotation has a field {wanted}; existing fields are "
            f"{', '.join(names)}. Specify the field with --text, or a file with --expressions."
        )


def _add_sentences(
    instances: Instances, images: _Images, path: Path, text: str | None, notes: Counter[str]
) -> None:
    of_annotation = {ann_id: row["image_id"] for ann_id, (_, row) in instances.annotations.items()}
    for sentence, ann_ids, image_id, split, where in read_table(path, text, notes):
        for ann_id in ann_ids:
            if ann_id not in of_annotation:
                raise DataError(f"{where}: no annotation of {instances.file} has the id {ann_id}.")
            if image_id not in (None, of_annotation[ann_id]):
                raise DataError(f"{where}: annotation {ann_id} belongs to another image.")
            image_id = of_annotation[ann_id]
        if image_id not in images:
            raise DataError(f"{where}: no image of {instances.file} has the id {image_id}.")
        image, positions = images[image_id]
        if split and image.split not in (None, split):
            raise DataError(f"{where}: split {split} differs from the image's split {image.split}.")
        image.split = split or image.split
        targets = tuple(positions[ann_id] for ann_id in ann_ids)
        image.sentences.append(ImportedSentence(sentence, targets))
