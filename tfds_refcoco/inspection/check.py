"""Checks builds: published counts, internal consistency, and images shared between datasets."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from tfds_refcoco import masks
from tfds_refcoco.console import progress_stream
from tfds_refcoco.errors import DataError
from tfds_refcoco.inspection.findings import FAILED, SKIPPED, Finding, judge
from tfds_refcoco.inspection.overlaps import (
    find_disjoint,
    find_overlap,
    find_pretrained,
    find_repeated,
)
from tfds_refcoco.inspection.published import PUBLISHED
from tfds_refcoco.raw.images import STORED
from tfds_refcoco.raw.sources import SOURCES
from tfds_refcoco.records.layout import INTEGERS, NAME, TEXTS, Index, read_build, read_index
from tfds_refcoco.records.reader import Dataset, open_dataset
from tfds_refcoco.records.types import Record
from tfds_refcoco.writing.indexing import Row, index_rows

# Allowed difference between a mask's pixels and the annotation's area. Measured on 2,000 COCO
# annotations without crowds: none deviates by more than 10 % and 4 pixels.
AREA_SHARE, AREA_PIXELS = 0.10, 5.0


def open_built(data_dir: Path, names: Sequence[str] = ()) -> list[Dataset]:
    """Opens the named datasets under `data_dir`, or all built ones.

    Raises:
      DataError: a dataset is not built or incomplete, or no dataset is built.
    """
    folder = data_dir if data_dir.name == NAME else data_dir / NAME
    names = names or [name for name in SOURCES if (folder / name).is_dir()]
    if not names:
        raise DataError(f"out: no dataset is built under {folder}; see `build --help`.")
    return [open_dataset(data_dir, name) for name in names]


def check_all(datasets: Sequence[Dataset], *, progress: bool = False) -> Iterator[Finding]:
    """Yields all findings on each dataset, and on images that two datasets share."""
    for built in datasets:
        yield _attempt(built.name, "counts", _counts, built)
        yield from _records(built, progress)
        yield _attempt(built.name, "splits", find_disjoint, built)
        yield _attempt(built.name, "pictures", find_repeated, built)
        yield from find_pretrained(built)
    for pair in combinations(datasets, 2):
        for held_out, training in (pair, pair[::-1]):
            what = f"{held_out.name} in train"
            yield _attempt(training.name, what, find_overlap, held_out, training)


def _attempt(name: str, what: str, check: Callable[..., Finding], *datasets: Dataset) -> Finding:
    """Runs a check of datasets; returns a failed finding if one cannot be read."""
    try:
        return check(*datasets)
    except DataError as error:
        return Finding(name, what, FAILED, "cannot be read", (str(error),))


def _counts(built: Dataset) -> Finding:
    published = PUBLISHED.get(built.name)
    if published is None:
        return Finding(built.name, "counts", SKIPPED, "no published counts")
    info = read_build(built.path)
    faults = []
    wanted = info["options"]["splits"] or published
    for name in (split for split in published if split in wanted):
        if name not in built.splits:
            faults.append(f"{name}: the split is missing")
            continue
        counts = built.split(name).counts
        for kind, expected in published[name]._asdict().items():
            if expected is not None and getattr(counts, kind) != expected:
                number = getattr(counts, kind)
                faults.append(f"{name}: {number:,} {kind}, but {expected:,} are published")
    limit = info["options"]["max_images"]
    known = f"built with --max-images {limit}" if limit else ""
    if info["skipped"] and not known:
        faults.append(f"{len(info['skipped'])} invalid items were skipped, see build.json")
    return judge(built.name, "counts", faults, "as published", known=known)


@dataclass
class _Seen:
    """Faults and counts collected while reading records."""

    faults: dict[str, list[str]] = field(
        default_factory=lambda: {k: [] for k in ("records", "images", "masks", "areas", "index")}
    )
    images: int = 0
    objects: int = 0
    sentences: int = 0
    refs: set[int] = field(default_factory=set)
    ratios: list[float] = field(default_factory=list)  # mask pixels / area

    def add(self, other: "_Seen", where: str = "") -> None:
        """Adds the results of `other`, with `where` as a prefix of its faults."""
        for kind, texts in other.faults.items():
            self.faults[kind] += [where + text for text in texts]
        self.images += other.images
        self.objects += other.objects
        self.sentences += other.sentences
        self.refs |= other.refs
        self.ratios += other.ratios


def _records(built: Dataset, progress: bool) -> Iterator[Finding]:
    """Reads every record once and yields findings on images, masks, areas and the index."""
    total = _Seen()
    for name in built.splits:
        total.add(_read_split(built, name, progress), f"{name}: ")
    # There are no ratios without readable records or targets.
    ratios = total.ratios or [1.0]
    span = f", pixels / area {min(ratios):.3f} to {max(ratios):.3f}"
    good = {
        "records": f"{total.images:,} can be read",
        "images": f"{total.images:,} decode to their size",
        "masks": f"{total.objects:,} decode, all targets exist",
        "areas": f"match the annotations{span if total.ratios else ''}",
        "index": f"{total.sentences:,} sentences match the records",
    }
    for kind, texts in total.faults.items():
        yield judge(built.name, kind, texts, good[kind])


def _read_split(built: Dataset, name: str, progress: bool) -> _Seen:
    seen = _Seen()
    try:
        split = built.split(name)
        index, counts = read_index(built.path, name)  # unchecked: faults are reported below
    except Exception as error:  # the reader raises many types
        seen.faults["records"].append(f"cannot be opened ({error}); rebuild with --overwrite")
        return seen
    starts = np.searchsorted(index.record, np.arange(len(split) + 1))

    def one(number: int) -> _Seen:
        try:
            record = split.read(number)
        except DataError as error:
            reason = str(error.__cause__).partition("\n")[0]
            broken = _Seen()
            broken.faults["records"].append(
                f"record {number} cannot be read ({reason}); rebuild with --overwrite"
            )
            return broken
        return _record(record, number, index, slice(starts[number], starts[number + 1]))

    label = f"{built.name} {name}"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        each = pool.map(one, range(len(split)))
        for result in tqdm(
            each, label, len(split), unit="image", disable=not progress, file=progress_stream()
        ):
            seen.add(result)
    if not seen.faults["records"]:
        real = (seen.images, seen.objects, len(seen.refs), seen.sentences)
        indexed = (counts.images, counts.objects, counts.refs, len(index))
        if real != indexed or (np.diff(index.record) < 0).any():
            seen.faults["index"].append(
                f"images, objects, refs, sentences: {indexed} in the index, {real} in the records"
            )
    return seen


def _record(record: Record, number: int, index: Index, rows: slice) -> _Seen:
    """Checks a record; `rows` are the index rows of its sentences."""
    objects, sentences, targets = record["objects"], record["sentences"], record["targets"]
    seen = _Seen(images=1, objects=len(objects["mask"]), sentences=len(sentences["sent"]))
    seen.refs = set(sentences["ref_id"].tolist())
    where = f"image id {record['image_id']}"
    if text := _image_fault(record):
        seen.faults["images"].append(f"{where}: {text}")
    for i, counts in enumerate(objects["mask"]):
        place = f"{where}, annotation id {objects['ann_id'][i]}"
        try:
            pixels = masks.area(counts, record["height"], record["width"])
        except DataError as error:
            seen.faults["masks"].append(f"{place}: {error}")
            continue
        if objects["iscrowd"][i]:  # outlined roughly: areas differ by up to a third
            continue
        area = float(objects["area"][i])
        if not area > 0:  # also catches NaN
            seen.faults["areas"].append(f"{place}: its area is {area}")
            continue
        seen.ratios.append(pixels / area)
        if abs(pixels - area) > AREA_SHARE * area + AREA_PIXELS:
            seen.faults["areas"].append(
                f"{place}: the mask has {pixels} pixels, but the area is {area:.0f}"
            )
    for name, positions, limit in (
        ("sentence", targets["sentence"], seen.sentences),
        ("object", targets["object"], seen.objects),
    ):
        if len(positions) and not 0 <= positions.min() <= positions.max() < limit:
            seen.faults["masks"].append(f"{where}: targets.{name} is out of range")
    if not seen.faults["masks"] and _rows(index, rows) != index_rows(record, number):
        seen.faults["index"].append(f"{where}: the index differs from the record")
    return seen


def _rows(index: Index, rows: slice) -> list[Row]:
    columns = [getattr(index, name)[rows].tolist() for name in INTEGERS]
    texts = [getattr(index, name)[rows] for name in TEXTS]
    return list(zip(*columns, *texts, strict=True))


def _image_fault(record: Record) -> str:
    """Returns the fault of a record's image, or "" if it is valid."""
    try:
        with Image.open(io.BytesIO(record["image"]), formats=STORED) as picture:
            picture.load()  # unlike OpenCV, Pillow detects truncation
    except Exception as error:  # decoders raise any type
        return f"does not decode ({error})"
    # The same decoding as in TFDS and training.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(record["image"], np.uint8), flags)
    if pixels is None or pixels.shape != (record["height"], record["width"], 3):
        got = "nothing" if pixels is None else f"{pixels.shape[1]}x{pixels.shape[0]}"
        return f"decodes to {got}, expected {record['width']}x{record['height']}"
    return ""
