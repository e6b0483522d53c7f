"""Converts imported images to a custom.json: splits, ids, masks and notes on skipped items."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfds_refcoco import masks
from tfds_refcoco.console import progress_stream
from tfds_refcoco.errors import DataError
from tfds_refcoco.importers.types import ImportedImage, ImportedObject
from tfds_refcoco.raw.custom_writer import CustomWriter, check_names, choose_val
from tfds_refcoco.raw.types import SPLITS
from tfds_refcoco.records.text import tokenize

_ALIASES = {
    **{name: name for name in SPLITS},
    **{"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"},
    **{"testa": "testA", "testb": "testB"},
}
_CROWD = (
    "sentences about a crowd (iscrowd) were skipped; import a COCO export of CVAT, which sets "
    "iscrowd for masks, with the format cvat"
)
LEAVE_OUT = "-"  # as the new name of a split: skip it


@dataclass(frozen=True)
class Imported:
    """Result of an import: custom.json, counts of images and sentences by split, and notes."""

    path: Path
    images: Counter[str]
    sentences: Counter[str]
    notes: list[str]


def assemble(
    images: Sequence[ImportedImage],
    out: Path,
    notes: Counter[str],
    *,
    splits: Mapping[str, str],
    val: float,
    seed: int,
    progress: bool = True,
) -> Imported:
    """Writes `out/custom.json`.

    Args:
      images: images read from the tool's files.
      out: output folder of custom.json.
      notes: counts of items that the reader ignored; more are added.
      splits: new names of splits; LEAVE_OUT skips a split.
      val: fraction of the images without a split that become `val`; the others become `train`.
      seed: seed for choosing the `val` images.
      progress: whether to show a progress bar.

    Raises:
      DataError: a mask or an image is invalid, a split name is unknown, two images resolve to one
        file, or no images are left.
    """
    if not 0 <= val < 1:
        raise DataError(f"val: {val} is not a fraction of the images; expected 0 <= val < 1.")
    notes += Counter()  # removes zeros
    writer = CustomWriter(out)
    writer.notes = notes
    named = [image for image in images if image.sentences]
    check_names((image.name, image.path) for image in named)
    if len(named) < len(images):
        notes["images without sentences were skipped"] += len(images) - len(named)
    if not named:
        raise DataError(
            f"{out}: no images to write; {writer.describe()}. If the expressions are in a field, "
            "column or attribute with another name, specify it with --text NAME."
        )
    if unused := set(splits) - {image.split for image in images}:
        existing = {repr(image.split) for image in images if image.split}
        listed = ", ".join(sorted(existing)) or "none"
        raise DataError(f"--split {min(unused)}=…: unknown split; available are: {listed}.")
    unsplit = [image.path for image in named if image.split is None]
    held_out = choose_val(unsplit, seed, val) if unsplit and val else frozenset()
    image_counts: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    taken: set[tuple[Path, str]] = set()
    rows = []
    for image in tqdm(named, "import", unit="image", disable=not progress, file=progress_stream()):
        split = _split(image, splits, held_out)
        if split == LEAVE_OUT:
            notes[f"images of the split {image.split} were skipped"] += 1
            continue
        path, width, height = writer.image_size(image.path, image.size, image.where)
        row = _row(image, height, width, notes)
        if not row["sentences"]:
            notes["images without sentences were skipped"] += 1
            continue
        if (path, split) in taken:
            notes[f"images of {split} have several entries, which do not share objects"] += 1
        taken.add((path, split))
        image_counts[split] += 1
        sentences[split] += len(row["sentences"])
        rows.append((path, {"split": split} | row))
    _drop_partial_ids([row for _, row in rows], notes)
    for path, row in rows:
        writer.add(path, row)
    return Imported(
        writer.write(),
        image_counts,
        sentences,
        [f"{number:,} {what}" for what, number in notes.items()],
    )


def _split(image: ImportedImage, splits: Mapping[str, str], held_out: frozenset[Path]) -> str:
    if image.split is None:
        return "val" if image.path in held_out else "train"
    if image.split in splits:
        return splits[image.split]
    if image.split.lower() not in _ALIASES:
        raise DataError(
            f"{image.where}: unknown split {image.split!r}; expected one of {', '.join(SPLITS)}. "
            f"Rename it with --split {image.split}=val, or skip it with --split {image.split}=-."
        )
    return _ALIASES[image.split.lower()]


def _row(image: ImportedImage, height: int, width: int, notes: Counter[str]) -> dict[str, Any]:
    """Returns the referred objects and the sentences, as in custom.json."""
    kept = []
    for sentence in image.sentences:
        if not tokenize(sentence.text):
            notes["sentences without words were skipped"] += 1
        elif any(image.objects[i].crowd for i in sentence.targets):
            notes[_CROWD] += 1
        elif not all(image.objects[i].parts for i in sentence.targets):
            notes["sentences about objects with a box but no mask were skipped"] += 1
        else:
            kept.append(sentence)
    referred = sorted({i for sentence in kept for i in sentence.targets})
    if unnamed := sum(not item.crowd for item in image.objects) - len(referred):
        notes["objects without sentences were skipped, but count for same_category"] += unnamed
    categories = Counter(item.category for item in image.objects if not item.crowd)
    position = {i: k for k, i in enumerate(referred)}
    row: dict[str, Any] = {
        "objects": [_object(image.objects[i], categories, height, width) for i in referred],
        "sentences": [
            {"text": sentence.text, "objects": [position[i] for i in sentence.targets]}
            | ({} if sentence.sent_id is None else {"id": sentence.sent_id})
            for sentence in kept
        ],
    }
    return row | ({} if image.image_id is None else {"id": image.image_id})


def _object(
    item: ImportedObject, categories: Counter[str], height: int, width: int
) -> dict[str, Any]:
    try:
        parts = [
            masks.encode(part(height, width))
            if callable(part)
            else masks.from_segmentation(part, height, width)
            for part in item.parts
        ]
        counts = masks.union(parts, height, width)
        if not masks.area(counts, height, width):
            raise DataError("the mask contains no pixel of the image.")
    except DataError as error:
        text = str(error)
        raise DataError(text if item.where in text else f"{item.where}: {text}") from error
    mask = {"rle": {"size": [height, width], "counts": counts.decode("ascii")}}
    row: dict[str, Any] = {"mask": mask}
    if item.category:
        row |= {"category": item.category, "same_category": categories[item.category]}
    return row | ({} if item.ann_id is None else {"id": item.ann_id})


def _drop_partial_ids(rows: Sequence[dict[str, Any]], notes: Counter[str]) -> None:
    """Removes the ids of a kind unless all items have unique ids, as custom.json requires."""
    kinds = {
        "images": list(rows),
        "objects": [item for row in rows for item in row["objects"]],
        "sentences": [item for row in rows for item in row["sentences"]],
    }
    for kind, items in kinds.items():
        ids = [item["id"] for item in items if "id" in item]
        if ids and len(set(ids)) < len(items):
            notes[f"ids of {kind} were ignored: some are missing or duplicated"] += len(ids)
            for item in items:
                item.pop("id", None)
