"""Checks what was built: against published counts, against itself, and sets against each other."""

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from tfds_refcoco import masks
from tfds_refcoco.counts import DISJOINT_BY_IMAGE, PUBLISHED
from tfds_refcoco.errors import DataError
from tfds_refcoco.findings import NOTE, OK, SKIPPED, Finding, judge
from tfds_refcoco.indexing import index_row
from tfds_refcoco.layout import INTEGERS, NAME, Index, read_build
from tfds_refcoco.reader import Dataset, Split, open_dataset
from tfds_refcoco.sources import SOURCES

# Pixels of a mask against the annotation's area. In the 2,000 COCO annotations that were measured
# for this, crowds left out, none deviates by more than 10 % and 4 pixels: small objects by their
# rim, large ones hardly.
AREA_SHARE, AREA_PIXELS = 0.10, 5.0


def open_built(data_dir: Path, names: Sequence[str] = ()) -> list[Dataset]:
    """Opens the data sets under `data_dir`: those named, or all that are built.

    Raises:
      DataError: one of them is not built or not whole, or there is none.
    """
    folder = data_dir if data_dir.name == NAME else data_dir / NAME
    found = names or [name for name in SOURCES if (folder / name).is_dir()]
    if not found:
        raise DataError(f"out: no data set is built under {folder}; see `build --help`.")
    return [open_dataset(data_dir, name) for name in found]


def check_all(datasets: Sequence[Dataset], *, progress: bool = False) -> Iterator[Finding]:
    """Yields every finding on each of the sets, and on images that two of them share."""
    for built in datasets:
        yield _counts(built)
        yield from _records(built, progress)
        yield _disjoint(built)
    for one, other in combinations(datasets, 2):
        for held_out, training in ((one, other), (other, one)):
            yield _overlap(held_out, training)


def _counts(built: Dataset) -> Finding:
    published = PUBLISHED.get(built.name)
    if published is None:
        return Finding(built.name, "counts", SKIPPED, "no counts are published")
    said = read_build(built.path)
    faults = []
    wanted = said["options"]["splits"] or published
    for name in (split for split in published if split in wanted):
        if name not in built.splits:
            faults.append(f"{name}: the split is missing")
            continue
        counts = built.split(name).counts
        for kind, expected in published[name]._asdict().items():
            if expected is not None and getattr(counts, kind) != expected:
                number = getattr(counts, kind)
                faults.append(f"{name}: {number:,} {kind}, published are {expected:,}")
    limit = said["options"]["max_images"]
    known = f"built with --max-images {limit}" if limit else ""
    if said["skipped"] and not known:
        faults.append(f"{len(said['skipped'])} faulty items were left out, see build.json")
    return judge(built.name, "counts", faults, "as published", known=known)


def _records(built: Dataset, progress: bool) -> Iterator[Finding]:
    """Reads every record once and yields what is found of images, masks, areas and the index."""
    faults: dict[str, list[str]] = {"images": [], "masks": [], "areas": [], "index": []}
    images = objects = sentences = 0
    ratios = [np.inf, -np.inf]
    for name in built.splits:
        split = built.split(name)
        index = split.index
        starts = np.searchsorted(index.record, np.arange(len(split) + 1))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            numbers = range(len(split))
            each = pool.map(lambda n, s=split, i=starts: _record(s, n, i[n], i[n + 1]), numbers)
            label = f"{built.name} {name}"
            for found in tqdm(each, label, len(split), unit="image", disable=not progress):
                for kind, texts in found["faults"].items():
                    faults[kind] += [f"{name}: {text}" for text in texts]
                ratios = [min(ratios[0], *found["ratios"]), max(ratios[1], *found["ratios"])]
                images, objects = images + 1, objects + found["objects"]
        sentences += len(index)
    span = f"pixels / area {ratios[0]:.3f} to {ratios[1]:.3f}" if objects else "no object"
    good = {
        "images": f"{images:,} decode to their size",
        "masks": f"{objects:,} decode, every target is there",
        "areas": span,
        "index": f"{sentences:,} sentences as in the records",
    }
    for kind, texts in faults.items():
        yield judge(built.name, kind, texts, good[kind])


def _record(split: Split, number: int, start: int, stop: int) -> dict[str, Any]:
    """Checks one record; rows `start` to `stop` of the index are its sentences."""
    faults: dict[str, list[str]] = {"images": [], "masks": [], "areas": [], "index": []}
    ratios: list[float] = [1.0]
    record = split.record(number)
    where = f"image id {record['image_id']}"
    if text := _image_fault(record):
        faults["images"].append(f"{where}: {text}")
    objects, targets = record["objects"], record["targets"]
    whole = True
    for i, counts in enumerate(objects["mask"]):
        try:
            pixels = masks.area(counts, record["height"], record["width"])
        except DataError as error:
            faults["masks"].append(f"{where}, annotation id {objects['ann_id'][i]}: {error}")
            whole = False
            continue
        area = float(objects["area"][i])
        if objects["iscrowd"][i]:  # drawn roughly: their areas are off by up to a third
            continue
        ratios.append(pixels / area)
        if abs(pixels - area) > AREA_SHARE * area + AREA_PIXELS:
            faults["areas"].append(
                f"{where}, annotation id {objects['ann_id'][i]}: the mask has {pixels} pixels, "
                f"its area is {area:.0f}"
            )
    for name, limit in (
        ("sentence", len(record["sentences"]["sent"])),
        ("object", len(objects["mask"])),
    ):
        if len(targets[name]) and not 0 <= targets[name].min() <= targets[name].max() < limit:
            faults["masks"].append(f"{where}: targets.{name} names what is not there")
            whole = False
    if whole:
        stored = _rows(split.index, start, stop)
        expected = [index_row(record, number, i) for i in range(len(record["sentences"]["sent"]))]
        if stored != expected:
            faults["index"].append(f"{where}: the index says otherwise than the record")
    return {"faults": faults, "ratios": ratios, "objects": len(objects["mask"])}


def _rows(index: Index, start: int, stop: int) -> list[tuple[Any, ...]]:
    columns = [getattr(index, name)[start:stop].tolist() for name in INTEGERS]
    return list(zip(*columns, index.category[start:stop], index.text[start:stop], strict=True))


def _image_fault(record: dict[str, Any]) -> str:
    """Returns what is wrong with the image of a record, "" if nothing."""
    try:
        with Image.open(io.BytesIO(record["image"])) as picture:
            picture.load()  # unlike OpenCV it notices an early end
    except (OSError, SyntaxError, ValueError) as error:
        return f"does not decode ({error})"
    # As TFDS and training read it.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(record["image"], np.uint8), flags)
    if pixels is None or pixels.shape != (record["height"], record["width"], 3):
        got = "nothing" if pixels is None else f"{pixels.shape[1]}x{pixels.shape[0]}"
        return f"decodes to {got}, not to {record['width']}x{record['height']}"
    return ""


def _disjoint(built: Dataset) -> Finding:
    ids = {name: image_ids(built, (name,)) for name in built.splits}
    faults = [
        f"{one} and {other} share {len(ids[one] & ids[other]):,} images"
        for one, other in combinations(ids, 2)
        if ids[one] & ids[other]
    ]
    known = "" if built.name in DISJOINT_BY_IMAGE else "the splits need not be disjoint by image"
    return judge(built.name, "splits", faults, "share no image", known=known)


def _overlap(held_out: Dataset, training: Dataset) -> Finding:
    """Says how many held-out images of one set another one trains on; it is no fault of either."""
    splits = tuple(name for name in held_out.splits if name != "train")
    what = f"{held_out.name} in train"
    if "train" not in training.splits or not splits or _other_images(held_out, training):
        return Finding(training.name, what, SKIPPED, "no such splits, or other images")
    shared = image_ids(held_out, splits) & image_ids(training, ("train",))
    parts = "/".join(splits)
    if not shared:
        return Finding(training.name, what, OK, f"no image of {parts} is trained on")
    summary = f"{len(shared):,} images of {parts} are trained on; --leak-free lists the others"
    return Finding(training.name, what, NOTE, summary)


def _other_images(one: Dataset, other: Dataset) -> bool:
    """Whether the two sets' image ids mean different images."""
    own = {"shapes", "custom"}
    return one.name != other.name and bool(own & {one.name, other.name})


def image_ids(built: Dataset, splits: Sequence[str]) -> set[int]:
    """Returns the ids of the images of the splits."""
    return set().union(*(built.split(name).index.image_id.tolist() for name in splits))


def leak_free(training: Dataset, others: Sequence[Dataset], held_out: set[int]) -> list[int]:
    """Returns the ids of train's images that no set holds out.

    Args:
      training: has a split train.
      others: whose every other split is held out; may hold `training` itself.
      held_out: further ids.

    Raises:
      DataError: there is no split train, or nothing is left of it.
    """
    if "train" not in training.splits:
        raise DataError(f"{training.path}: no split train was built.")
    kept = image_ids(training, ("train",)) - held_out
    for other in others:
        if not _other_images(other, training):
            kept -= image_ids(other, [name for name in other.splits if name != "train"])
    if not kept:
        raise DataError(f"{training.name}: every image of train is held out somewhere.")
    return sorted(kept)
