"""Reads instances.json and the refs of RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.files import MAX_ANNOTATIONS, RawFile
from tfds_refcoco.raw.pickles import read_pickle
from tfds_refcoco.raw.problems import Problems
from tfds_refcoco.raw.sources import ImageFinder, Source, find_annotations
from tfds_refcoco.raw.types import SPLITS, RawImage, RawObject, RawSentence


@dataclass
class Instances:
    """instances.json by id: images, (position, annotation) and category names."""

    file: RawFile
    images: dict[int, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    # Number of annotations by image and category, without crowds.
    category_counts: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass
class _Group:
    """Objects and sentences of one image of one split."""

    objects: dict[int, RawObject] = field(default_factory=dict)  # by ann_id, in order
    sentences: list[RawSentence] = field(default_factory=list)


def read_coco(
    root: Path,
    source: Source,
    problems: Problems,
    splits: tuple[str, ...] = (),
    max_images: int | None = None,
) -> dict[str, tuple[RawImage, ...]]:
    """Returns the images of every split in the refs file under `root`.

    Args:
      root: the raw folder.
      source: source of the dataset.
      problems: handles invalid items.
      splits: splits to read; all if empty.
      max_images: maximum number of images per split, including invalid ones.

    Raises:
      DataError: a file or image is missing, or a field is missing, mistyped or contradictory.
    """
    instances_file = find_annotations(root, source, "instances.json")
    refs_file = find_annotations(root, source, source.refs)
    instances = read_instances(instances_file, problems)
    refs = read_json(refs_file) if source.generalized else read_pickle(refs_file)
    if not isinstance(refs, list) or not refs:
        raise DataError(f"{refs_file}: expected a non-empty list of refs; download it again.")

    grouped: dict[str, dict[int, _Group]] = {}
    seen: tuple[set[int], set[int]] = set(), set()
    for number, ref in enumerate(refs):
        where = f"{refs_file}: refs[{number}]"
        with problems.skipping():
            split = read_split(ref, where)
            if not splits or split in splits:
                of_split = grouped.setdefault(split, {})
                _add_ref(ref, where, instances, source.generalized, of_split, seen, problems)

    finder = ImageFinder(root)
    images_of: dict[str, tuple[RawImage, ...]] = {}
    missing: dict[str, int] = {}
    for split in (name for name in SPLITS if name in grouped):
        images = []
        for image_id, group in list(grouped[split].items())[:max_images]:
            row = instances.images[image_id]
            file = finder.find(row["file_name"])
            if file is None:
                missing[row["file_name"]] = image_id
            else:
                images.append(_image(row, file, group, f"{instances_file}: image id {image_id}"))
        images_of[split] = tuple(images)
    if missing and not problems.skip:
        with problems.skipping():
            raise finder.complain(missing, instances_file)
    problems.messages += [f"{instances_file}: the image {name} is missing." for name in missing]
    return images_of


def read_split(row: object, where: str) -> str:
    """Returns the field `split`; raises DataError if it is unknown."""
    split = fields.text(row, "split", where)
    if split not in SPLITS:
        raise DataError(
            f"{where}.split: unknown split {split!r}; expected one of {', '.join(SPLITS)}."
        )
    return split


def read_json(file: RawFile, fix: str = "download it again") -> object:
    """Returns the content of a JSON file; raises DataError ending in `fix` if it is invalid."""
    try:
        content: object = json.loads(file.read(MAX_ANNOTATIONS))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not a readable JSON file ({error}); {fix}.") from error
    return content


def read_instances(file: RawFile, problems: Problems) -> Instances:
    """Returns instances.json by id; checks only the ids of annotations.

    Raises:
      DataError: a field is missing or mistyped, or an id appears twice.
    """
    content = read_json(file)
    top = f"{file}: top level"
    read = Instances(file)
    for i, row in enumerate(fields.field(content, "images", list, top)):
        where = f"{file}: images[{i}]"
        with problems.skipping():
            image_id = fields.number(row, "id", where)
            if image_id in read.images:
                raise DataError(f"{where}.id: {image_id} appears twice.")
            fields.text(row, "file_name", where)
            for name in ("height", "width"):
                fields.side(fields.number(row, name, where), f"{where}.{name}")
            read.images[image_id] = row
    for i, row in enumerate(fields.field(content, "annotations", list, top)):
        with problems.skipping():
            ann_id = fields.number(row, "id", f"{file}: annotations[{i}]")
            if ann_id in read.annotations:
                raise DataError(f"{file}: annotations[{i}].id: {ann_id} appears twice.")
            read.annotations[ann_id] = (i, row)
            if not row.get("iscrowd"):
                # Annotations without refs are not checked, so any field may be missing.
                read.category_counts[str(row.get("image_id")), str(row.get("category_id"))] += 1
    for i, row in enumerate(fields.field(content, "categories", list, top)):
        where = f"{file}: categories[{i}]"
        name, category_id = fields.text(row, "name", where), fields.number(row, "id", where)
        if read.categories.setdefault(category_id, name) != name:
            raise DataError(f"{where}.id: {category_id} appears twice.")
    return read


def _add_ref(
    ref: Any,
    where: str,
    instances: Instances,
    generalized: bool,
    groups: dict[int, _Group],
    seen: tuple[set[int], set[int]],
    problems: Problems,
) -> None:
    """Adds the sentences and objects of a ref to the group of its image."""
    ref_ids, sent_ids = seen
    ref_id = fields.number(ref, "ref_id", where)
    fields.unique(ref_ids, ref_id, f"{where}.ref_id")
    image_id = fields.number(ref, "image_id", where)
    if image_id not in instances.images:
        raise DataError(f"{where}.image_id: {image_id} is not in {instances.file}.")
    sentences = fields.field(ref, "sentences", list, where)
    if not sentences and not generalized:
        raise DataError(f"{where}.sentences: the ref has no sentences.")
    if not sentences:  # gRefCOCO contains such refs, and its authors skip them
        problems.notes["refs without sentences were skipped"] += 1
        return
    named = {
        ann_id: _object(ann_id, image_id, where, instances, generalized)
        for ann_id in _ann_ids(ref, where, generalized)
    }
    # gRefCOCO's authors exclude crowd annotations from the target.
    objects = {ann_id: item for ann_id, item in named.items() if not item.iscrowd}
    if len(objects) < len(named):
        problems.notes["crowds were excluded from the targets"] += len(named) - len(objects)
    if named and not objects:  # without masks it would look like a no-target ref
        problems.notes["refs to crowds only were skipped"] += 1
        return
    kept = []
    for i, sentence in enumerate(sentences):
        place = f"{where}.sentences[{i}]"
        with problems.skipping():
            sent_id = fields.number(sentence, "sent_id", place)
            sent = fields.sentence(sentence, "sent", place)
            # All RefCOCO datasets have this field.
            optional = generalized and "raw" not in sentence
            raw = sent if optional else fields.text(sentence, "raw", place)
            fields.unique(sent_ids, sent_id, f"{place}.sent_id")
            kind = fields.text(sentence, "kind", place) if "kind" in sentence else ""
            kept.append((sent_id, sent, raw, kind))
    if not kept:
        return
    group = groups.setdefault(image_id, _Group())
    group.objects |= objects
    position = {ann_id: i for i, ann_id in enumerate(group.objects)}
    targets = tuple(position[ann_id] for ann_id in objects)
    group.sentences += [
        RawSentence(i, ref_id, sent, raw, targets, kind) for i, sent, raw, kind in kept
    ]


def _ann_ids(ref: Any, where: str, generalized: bool) -> list[int]:
    if not generalized:
        return [fields.number(ref, "ann_id", where)]
    if isinstance(ref.get("ann_id"), int):  # gRefCOCO's loaders also accept an integer
        ids = [fields.number(ref, "ann_id", where)]
    else:
        ids = fields.numbers(ref, "ann_id", where)
    ids = [] if ids == [-1] else ids  # gRefCOCO's notation for no target
    if len(set(ids)) < len(ids):
        raise DataError(f"{where}.ann_id: {ids} names an annotation twice.")
    if "no_target" in ref and bool(ref["no_target"]) != (not ids):
        raise DataError(f"{where}.no_target: {ref['no_target']} contradicts ann_id {ids}.")
    return ids


def _object(
    ann_id: int, image_id: int, ref_where: str, instances: Instances, generalized: bool
) -> RawObject:
    if ann_id not in instances.annotations:
        raise DataError(f"{ref_where}.ann_id: {ann_id} is not in {instances.file}.")
    position, annotation = instances.annotations[ann_id]
    where = f"{instances.file}: annotations[{position}]"
    if fields.number(annotation, "image_id", where) != image_id:
        raise DataError(
            f"{ref_where}.image_id: {image_id} differs from the image of ann_id {ann_id}."
        )
    category_id = fields.number(annotation, "category_id", where)
    if category_id not in instances.categories:
        raise DataError(f"{where}.category_id: {category_id} is not among the categories.")
    iscrowd = fields.number(annotation, "iscrowd", where) if "iscrowd" in annotation else 0
    if iscrowd and not generalized:
        raise DataError(
            f"{where}.iscrowd: {ref_where} refers to annotation id {ann_id}, which is a crowd "
            "instead of a single object."
        )
    box = fields.field(annotation, "bbox", list, where)
    if len(box) != 4 or not all(fields.is_finite(value) for value in box) or min(box[2:]) < 0:
        raise DataError(f"{where}.bbox: {box} is not [x, y, width, height] in pixels.")
    area = fields.field(annotation, "area", (int, float), where)
    if not fields.is_finite(area) or area < 1e-3:  # the area must be a valid float32 divisor
        raise DataError(f"{where}.area: {area} is not a positive number of pixels.")
    x, y, width, height = (float(value) for value in box)
    return RawObject(
        ann_id=ann_id,
        category_id=category_id,
        category=instances.categories[category_id],
        bbox=(x, y, width, height),
        area=float(area),
        iscrowd=iscrowd,
        same_category=instances.category_counts[str(image_id), str(category_id)],
        segmentation=fields.field(annotation, "segmentation", (list, dict), where),
    )


def _image(row: dict[str, Any], file: RawFile, group: _Group, where: str) -> RawImage:
    return RawImage(
        file=file,
        image_id=row["id"],
        file_name=row["file_name"],
        height=row["height"],
        width=row["width"],
        objects=tuple(group.objects.values()),
        sentences=tuple(group.sentences),
        where=where,
    )
