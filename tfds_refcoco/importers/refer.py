"""Import of datasets in RefCOCO's layout (instances.json, refs(*).p), such as RRSIS-D, RefClef."""

from collections import Counter
from pathlib import Path

from tfds_refcoco.errors import DataError
from tfds_refcoco.importers.coco import segmentation_parts
from tfds_refcoco.importers.common import find_image
from tfds_refcoco.importers.types import ImportedImage, ImportedObject, ImportedSentence
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.coco import Instances, read_instances, read_json
from tfds_refcoco.raw.files import RawFile
from tfds_refcoco.raw.pickles import read_pickle
from tfds_refcoco.raw.problems import Problems


def read_refer(path: Path, image_dir: Path | None, notes: Counter[str]) -> list[ImportedImage]:
    """Reads a dataset in RefCOCO's layout.

    Args:
      path: the refs file, or its folder; instances.json must be in the same folder.
      image_dir: folder of the images, searched recursively; by default folders near the
        annotations are searched.
      notes: counts of ignored items.

    Raises:
      DataError: a file or field is missing or invalid.
    """
    if path.is_dir():
        files = [*path.glob("*refs*.p"), *path.glob("*refs*.json"), *path.glob("*refs*.pickle")]
        if len(files) != 1:
            names = ", ".join(sorted(file.name for file in files)) or "none"
            raise DataError(f"{path}: expected one refs file, got {names}; specify the file.")
        path = files[0]
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder.")
    instances_path = path.parent / "instances.json"
    if not instances_path.is_file():
        raise DataError(f"{instances_path}: no such file; put it in the folder of {path.name}.")
    instances = read_instances(RawFile(instances_path), Problems())
    refs = _read_refs(path)
    if not isinstance(refs, list) or not refs:
        raise DataError(f"{path}: expected a non-empty list of refs.")
    folders = _folders(path.parent, image_dir)
    rivals = _rivals(instances)
    images: dict[tuple[str, int], ImportedImage] = {}
    positions: dict[tuple[str, int], dict[int, int]] = {}
    for number, ref in enumerate(refs):
        where = f"{path}: refs[{number}]"
        split = fields.text(ref, "split", where)
        ann_ids = _ann_ids(ref, where)
        image_id = fields.number(ref, "image_id", where)
        if image_id not in instances.images:
            raise DataError(f"{where}.image_id: {image_id} is not in {instances_path}.")
        key = split, image_id
        if key not in images:
            row = instances.images[image_id]
            place = f"{instances_path}: image id {image_id}"
            file = _find_only(row["file_name"], folders, place)
            size = row["width"], row["height"]
            name = row["file_name"]
            images[key] = ImportedImage(file, name, size, split, place, image_id=image_id)
            positions[key] = {}
            for ann_id in rivals.get(image_id, ()):
                positions[key][ann_id] = len(images[key].objects)
                images[key].objects.append(_object(ann_id, instances))
        for ann_id in ann_ids:
            if ann_id not in positions[key]:
                raise DataError(
                    f"{where}.ann_id: {ann_id} is not an annotation of image {image_id} in "
                    f"{instances_path}."
                )
        if len(set(ann_ids)) < len(ann_ids):
            raise DataError(f"{where}.ann_id: {ann_ids} names an annotation twice.")
        targets = tuple(positions[key][ann_id] for ann_id in ann_ids)
        sentences = fields.field(ref, "sentences", list, where)
        if not sentences:
            notes["refs without sentences were skipped"] += 1
        for i, sentence in enumerate(sentences):
            place = f"{where}.sentences[{i}]"
            name = "sent" if isinstance(sentence, dict) and "sent" in sentence else "raw"
            text = fields.sentence(sentence, name, place)
            sent_id = fields.number(sentence, "sent_id", place) if "sent_id" in sentence else None
            images[key].sentences.append(ImportedSentence(text, targets, sent_id))
    return list(images.values())


def _read_refs(path: Path) -> object:
    if path.suffix == ".json":
        return read_json(RawFile(path))
    try:
        return read_pickle(RawFile(path))
    except DataError as error:  # for example, NumPy numbers
        hint = f"You can also save your refs as JSON: {path.with_suffix('.json').name}."
        raise DataError(f"{error} {hint}") from error


def _find_only(name: str, folders: list[Path], where: str) -> Path:
    """Finds an image in `folders`; raises DataError if different files match."""
    first = find_image(name, folders, where)
    others = [folder / name for folder in folders if (folder / name).is_file()]
    for other in others:
        if not other.samefile(first):
            raise DataError(
                f"{where}: image {name!r} matches {first} and {other}; set --images to the folder "
                "of one."
            )
    return first


def _ann_ids(ref: object, where: str) -> list[int]:
    several = isinstance(fields.field(ref, "ann_id", (int, list), where), list)
    ids = fields.numbers(ref, "ann_id", where) if several else [fields.number(ref, "ann_id", where)]
    return [] if ids == [-1] else ids  # gRefCOCO's notation for no target


def _folders(parent: Path, image_dir: Path | None) -> list[Path]:
    """Returns the folders to search for images, including subfolders."""
    roots = [image_dir] if image_dir else [parent, parent.parent / "images", parent / "images"]
    folders = []
    for root in roots:
        if image_dir and not root.is_dir():
            raise DataError(f"{root}: no such folder.")
        below = sorted(path for path in root.rglob("*") if path.is_dir()) if root.is_dir() else []
        folders += [root, *below]
    return folders


def _rivals(instances: Instances) -> dict[int, list[int]]:
    """Returns the annotation ids by image id."""
    ann_ids: dict[int, list[int]] = {}
    for ann_id, (position, row) in instances.annotations.items():
        where = f"{instances.file}: annotations[{position}]"
        ann_ids.setdefault(fields.number(row, "image_id", where), []).append(ann_id)
    return ann_ids


def _object(ann_id: int, instances: Instances) -> ImportedObject:
    position, row = instances.annotations[ann_id]
    where = f"{instances.file}: annotations[{position}]"
    category = fields.number(row, "category_id", where)
    if category not in instances.categories:
        raise DataError(f"{where}.category_id: {category} is not among the categories.")
    parts = segmentation_parts(row, where)
    name = instances.categories[category]
    return ImportedObject(parts, name, where, ann_id, bool(row.get("iscrowd")))
