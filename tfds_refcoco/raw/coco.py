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
    """instances.json by id: images, (position, annotation) and names of categories."""

    file: RawFile
    images: dict[int, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    # Annotations by image and category, crowds not counted.
    alike: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass
class _Group:
    """What is said of one image of one split."""

    objects: dict[int, RawObject] = field(default_factory=dict)  # by ann_id, in order
    sentences: list[RawSentence] = field(default_factory=list)


def read_coco(
    root: Path,
    source: Source,
    problems: Problems,
    splits: tuple[str, ...] = (),
    max_images: int | None = None,
) -> dict[str, tuple[RawImage, ...]]:
    """Returns the images of every split that the refs name, found under `root`.

    Args:
      root: the raw folder.
      source: of the data set.
      problems: decides about faulty items.
      splits: those wanted, all where empty.
      max_images: the first so many of each split that are named, faulty ones counted.

    Raises:
      DataError: a file or image is missing, or a field is absent, mistyped or contradictory.
    """
    instances_file = find_annotations(root, source, "instances.json")
    refs_file = find_annotations(root, source, source.refs)
    instances = read_instances(instances_file, problems)
    refs = read_json(refs_file) if source.generalized else read_pickle(refs_file)
    if not isinstance(refs, list) or not refs:
        raise DataError(f"{refs_file}: expected a non-empty list of refs; fetch it again.")

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
    found: dict[str, tuple[RawImage, ...]] = {}
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
        found[split] = tuple(images)
    if missing and not problems.skip:
        with problems.skipping():
            raise finder.complain(missing, instances_file)
    problems.found += [f"{instances_file}: the image {name} is missing." for name in missing]
    return found


def read_split(row: object, where: str) -> str:
    """Returns the field `split`; raises DataError if there is no such split."""
    split = fields.text(row, "split", where)
    if split not in SPLITS:
        raise DataError(f"{where}.split: {split!r} is none of {', '.join(SPLITS)}.")
    return split


def read_json(file: RawFile, fix: str = "fetch it again") -> object:
    """Returns the content of a JSON file; raises DataError, which ends in `fix`, if it is none."""
    try:
        content: object = json.loads(file.read(MAX_ANNOTATIONS))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not a readable JSON file ({error}); {fix}.") from error
    return content


def read_instances(file: RawFile, problems: Problems) -> Instances:
    """Returns instances.json by id; of annotations, the ids alone are checked.

    Raises:
      DataError: it is no such file, or a field is absent, mistyped or given twice.
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
                # Of annotations that nothing refers to no field is checked, so any may be absent.
                read.alike[str(row.get("image_id")), str(row.get("category_id"))] += 1
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
    """Adds the sentences of a ref, and its objects, to the group of its image."""
    ref_ids, sent_ids = seen
    ref_id = fields.number(ref, "ref_id", where)
    fields.unique(ref_ids, ref_id, f"{where}.ref_id")
    image_id = fields.number(ref, "image_id", where)
    if image_id not in instances.images:
        raise DataError(f"{where}.image_id: {image_id} is not in {instances.file}.")
    sentences = fields.field(ref, "sentences", list, where)
    if not sentences and not generalized:
        raise DataError(f"{where}.sentences: the ref has no sentence.")
    if not sentences:  # gRefCOCO as published has them: its authors skip them
        problems.notes["refs without a sentence were left out"] += 1
        return
    named = {
        ann_id: _object(ann_id, image_id, where, instances, generalized)
        for ann_id in _ann_ids(ref, where, generalized)
    }
    # gRefCOCO's authors leave groups that were not told apart out of the target.
    objects = {ann_id: item for ann_id, item in named.items() if not item.iscrowd}
    if len(objects) < len(named):
        problems.notes["crowds were left out of the targets"] += len(named) - len(objects)
    if named and not objects:  # without a mask it would pass for a sentence without a target
        problems.notes["refs to crowds alone were left out"] += 1
        return
    kept = []
    for i, sentence in enumerate(sentences):
        place = f"{where}.sentences[{i}]"
        with problems.skipping():
            sent_id = fields.number(sentence, "sent_id", place)
            sent = fields.sentence(sentence, "sent", place)
            # RefCOCO's sets all have it.
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
    if isinstance(ref.get("ann_id"), int):  # gRefCOCO's own loaders take a plain number, too
        ids = [fields.number(ref, "ann_id", where)]
    else:
        ids = fields.numbers(ref, "ann_id", where)
    ids = [] if ids == [-1] else ids  # how gRefCOCO writes that there is no target
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
        raise DataError(f"{ref_where}.image_id: {image_id} is not the image of ann_id {ann_id}.")
    category_id = fields.number(annotation, "category_id", where)
    if category_id not in instances.categories:
        raise DataError(f"{where}.category_id: {category_id} is not among the categories.")
    iscrowd = fields.number(annotation, "iscrowd", where) if "iscrowd" in annotation else 0
    if iscrowd and not generalized:
        raise DataError(
            f"{where}.iscrowd: {ref_where} refers to annotation id {ann_id}, a group that was not "
            "told apart and no single object."
        )
    box = fields.field(annotation, "bbox", list, where)
    if len(box) != 4 or not all(fields.is_finite(value) for value in box) or min(box[2:]) < 0:
        raise DataError(f"{where}.bbox: {box} is not [x, y, width, height] in pixels.")
    area = fields.field(annotation, "area", (int, float), where)
    if not fields.is_finite(area) or area < 1e-3:  # what float32 divides by
        raise DataError(f"{where}.area: {area} is not a positive number of pixels.")
    x, y, width, height = (float(value) for value in box)
    return RawObject(
        ann_id=ann_id,
        category_id=category_id,
        category=instances.categories[category_id],
        bbox=(x, y, width, height),
        area=float(area),
        iscrowd=iscrowd,
        same_category=instances.alike[str(image_id), str(category_id)],
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
