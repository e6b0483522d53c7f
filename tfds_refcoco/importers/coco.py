"""COCO instances, with expressions in a file of their own or in a field of the annotations."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfds_refcoco.errors import DataError
from tfds_refcoco.importers.common import TEXT_NAMES, find_image, split_texts, text_field
from tfds_refcoco.importers.types import ImportedImage, ImportedObject, ImportedSentence, Part
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.coco import Instances, read_instances, read_json
from tfds_refcoco.raw.files import MAX_ANNOTATIONS, RawFile
from tfds_refcoco.raw.problems import Problems

_ID_NAMES = ("ann_id", "annotation_id", "ann_ids", "annotation_ids", "id")


def read_coco_export(
    path: Path,
    image_dir: Path | None,
    expressions: Path | None,
    text: str | None,
    notes: Counter[str],
    *,
    crowds: bool = True,
) -> list[ImportedImage]:
    """Reads a COCO annotation file, or one of each split.

    Args:
      path: of the file, or of a folder with `annotations/instances_*.json`, as COCO and CVAT have
        it, with other JSON files, or with one in each of its folders, as Roboflow has it.
      image_dir: folder of the images; else they are sought around the file.
      expressions: CSV or JSON of expressions by annotation id. None reads them from a field of
        the annotations, or of their `attributes`, as CVAT writes them.
      text: name of that field or column; one of `TEXT_NAMES` if None.
      notes: counts what is not kept.
      crowds: whether `iscrowd` says that an annotation is a group; CVAT sets it for each mask.

    Raises:
      DataError: a file or field is faulty, or there is no expression.
    """
    read = []
    files = _files(path, expressions)
    for file, subset in files:
        split = subset if len(files) > 1 else None
        instances = read_instances(RawFile(file), Problems())
        images = _images(instances, file, image_dir, subset, split)
        _add_objects(instances, images, crowds)
        if expressions is None:
            _add_own_sentences(instances, images, text, notes)
        read.append((instances, images))
    if expressions is not None:
        _add_sentences(*_merge(read, path), expressions, text, notes)
    return [image for _, images in read for image, _ in images.values()]


_Images = dict[int, tuple[ImportedImage, dict[int, int]]]  # by id; positions by annotation id


def _files(path: Path, expressions: Path | None) -> list[tuple[Path, str]]:
    """The annotation files, each with the name of its split."""
    if not path.is_dir():
        return [(path, path.stem.removeprefix("instances_"))]
    files = sorted(path.glob("annotations/instances_*.json")) or sorted(path.glob("*.json"))
    files = [file for file in files if file != expressions]
    if files:
        return [(file, file.stem.removeprefix("instances_")) for file in files]
    files = sorted(path.glob("*/*.json"))
    if not files:
        raise DataError(f"{path}: no annotations/instances_*.json or other JSON in this folder.")
    return [(file, file.parent.name) for file in files]


def _images(
    instances: Instances, file: Path, image_dir: Path | None, subset: str, split: str | None
) -> _Images:
    parent = file.parent
    roots = [image_dir] if image_dir else [parent, parent / "images", parent.parent / "images"]
    folders = [*(root / subset for root in roots), *roots]  # CVAT has a folder for each subset
    found: _Images = {}
    for image_id, row in instances.images.items():
        where = f"{file}: image id {image_id}"
        path, name = find_image(row["file_name"], folders, where), f"{subset}/{row['file_name']}"
        size = row["width"], row["height"]
        found[image_id] = ImportedImage(path, name, size, split, where, image_id=image_id), {}
    return found


def _merge(read: Sequence[tuple[Instances, _Images]], path: Path) -> tuple[Instances, _Images]:
    """Returns the files of a folder as one; raises DataError if several have one id."""
    if len(read) == 1:
        return read[0]
    instances, images = Instances(RawFile(path)), dict[int, Any]()
    for one, of_one in read:
        shared = instances.annotations.keys() & one.annotations.keys()
        if shared := shared or images.keys() & of_one.keys():
            raise DataError(
                f"{path}: several of its files have the id {min(shared)}, so that expressions by "
                "id are ambiguous; import each file with expressions of its own."
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
                f"{where}.category_id: {category} is not among the categories, whose ids are "
                f"{known}, …"
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
    """Returns the segmentation of an annotation: polygons, RLE or a list of RLEs; [] of a box."""
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
        for sentence in split_texts(both[name], f"{where}.{name}") if name else ():
            image.sentences.append(ImportedSentence(sentence, (positions[ann_id],)))
        spare = set(attributes) - {name, "occluded", "rotation"}
        notes["attributes of objects were not kept"] += len(spare)
    if not any(image.sentences for image, _ in images.values()):
        wanted = text or " or ".join(TEXT_NAMES)
        raise DataError(
            f"{instances.file}: no annotation has a field {wanted}, there are {', '.join(names)}. "
            "Give a CSV or JSON with --expressions, or name the field with --text."
        )


def _add_sentences(
    instances: Instances, images: _Images, path: Path, text: str | None, notes: Counter[str]
) -> None:
    of_annotation = {ann_id: row["image_id"] for ann_id, (_, row) in instances.annotations.items()}
    for sentence, ann_ids, image_id, split, where in _rows(path, text, notes):
        for ann_id in ann_ids:
            if ann_id not in of_annotation:
                raise DataError(f"{where}: no annotation of {instances.file} has the id {ann_id}.")
            if image_id not in (None, of_annotation[ann_id]):
                raise DataError(f"{where}: annotation {ann_id} is of another image.")
            image_id = of_annotation[ann_id]
        if image_id not in images:
            raise DataError(f"{where}: no image of {instances.file} has the id {image_id}.")
        image, positions = images[image_id]
        if split and image.split not in (None, split):
            raise DataError(f"{where}: its image is in the split {image.split}, too.")
        image.split = split or image.split
        targets = tuple(positions[ann_id] for ann_id in ann_ids)
        image.sentences.append(ImportedSentence(sentence, targets))


_Row = tuple[str, list[int], int | None, str | None, str]


def _rows(path: Path, text: str | None, notes: Counter[str]) -> Iterator[_Row]:
    """Yields text, annotation ids, image id, split and place of each expression."""
    file = RawFile(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        try:
            content = file.read(MAX_ANNOTATIONS).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 ({error}); save it as UTF-8.") from error
        delimiter = max(",;\t", key=content.partition("\n")[0].count)
        rows: Any
        try:
            rows = list(csv.DictReader(io.StringIO(content), delimiter=delimiter))
        except csv.Error as error:
            raise DataError(f"{path}: not readable CSV ({error}); save it again.") from error
    else:
        rows = read_json(file, "fix it")
    if isinstance(rows, dict):  # {annotation id: text or list of texts}
        rows = [{"ann_id": ann_id, "expressions": value} for ann_id, value in rows.items()]
        text = None
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list, or a dictionary by annotation id.")
    for number, row in enumerate(rows):
        where = f"{path}: row {number + 1}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a dictionary.")
        if None in row:
            raise DataError(f"{where}: more values than columns; put texts with commas in quotes.")
        row = {str(key).strip(): value for key, value in row.items()}
        name = text_field(row, text)
        id_name = next((n for n in _ID_NAMES if n in row), None)
        if name is None or (id_name is None and "image_id" not in row):
            raise DataError(
                f"{where}: expected the columns ann_id (or image_id, for no target) and "
                f"{text or 'expression'}, found {', '.join(row)}."
            )
        image_id = row.get("image_id")
        split = row.get("split")
        sentences = split_texts(row[name], f"{where}.{name}")
        notes["rows without an expression were left out"] += not sentences
        for sentence in sentences:
            yield (
                sentence,
                _ids(row[id_name], f"{where}.{id_name}") if id_name else [],
                _ids(image_id, f"{where}.image_id")[0] if image_id not in (None, "") else None,
                str(split) if split else None,
                where,
            )


def _ids(value: Any, where: str) -> list[int]:
    """Reads 12, "12", "12 13", "12;13" or [12, 13]."""
    if isinstance(value, str):
        value = value.replace(";", " ").replace(",", " ").split()
    values = value if isinstance(value, list) else [value]
    try:
        if any(isinstance(one, bool | float) for one in values):
            raise ValueError(values)
        return [int(one) for one in values]
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {value!r} is no id.") from error
