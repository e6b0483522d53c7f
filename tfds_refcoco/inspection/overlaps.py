"""Detection of pictures that splits or datasets share, by bytes and ids."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from tfds_refcoco.errors import DataError
from tfds_refcoco.inspection.findings import NOTE, OK, SKIPPED, Finding, judge
from tfds_refcoco.inspection.published import DISJOINT_BY_IMAGE
from tfds_refcoco.records.pictures import image_ids, pictures, same_ids
from tfds_refcoco.records.reader import Dataset

_NAMED = 8  # shared pictures listed per finding


def find_disjoint(built: Dataset) -> Finding:
    """Reports pictures that splits of a dataset share, by bytes or, for COCO images, by id."""
    faults = []
    for one, other in combinations(built.splits, 2):
        shared = _shared(built, (one,), built, (other,))
        if shared:
            names = _names(built, one, built, other, shared)
            faults += [f"{one} and {other} share {len(shared):,} images{names}"]
    known = (
        ""
        if built.name in DISJOINT_BY_IMAGE
        else "these splits are not required to be disjoint by image"
    )
    return judge(built.name, "splits", faults, "share no image", known=known)


def find_repeated(built: Dataset) -> Finding:
    """Reports pictures that a split contains several times, under different ids."""
    total, details = 0, []
    for name in built.splits:
        index = built.split(name).index
        _, first = np.unique(index.record, return_index=True)
        values, counts = np.unique(index.picture[first], return_counts=True)
        repeated = values[counts > 1].tolist()
        total += len(repeated)
        for picture in repeated[:_NAMED]:
            numbers = np.unique(index.record[index.picture == picture]).tolist()
            listed = ", ".join(_name(built, name, number) for number in numbers[:_NAMED])
            details.append(f"{name}: one picture in {len(numbers)} records: {listed}")
    if not total:
        return Finding(built.name, "pictures", OK, "each split contains each picture once")
    summary = f"{total:,} are duplicated; list all sentences of a picture in one entry"
    return Finding(built.name, "pictures", NOTE, summary, tuple(details))


def find_pretrained(built: Dataset) -> Iterator[Finding]:
    """Reports held-out images that published pretrained backbones were trained on.

    MCN's and SimREC's backbones exclude the val and test images of RefCOCO and RefCOCO+ (UNC) and
    RefCOCOg (UMD). They were trained on 3,564 val images of RefCOCOg (Google).
    """
    seen = {
        "refcoco_google": "but not this dataset's val and test images",
        "refcocog_google": "but not 3,564 of this dataset's 4,650 val images",
    }
    if built.name in seen:
        summary = (
            "MCN's and SimREC's weights exclude the 6,549 val and test images of RefCOCO, RefCOCO+ "
            f"(unc) and RefCOCOg (umd), {seen[built.name]}"
        )
        yield Finding(built.name, "pretraining", NOTE, summary)


def find_overlap(held_out: Dataset, training: Dataset) -> Finding:
    """Reports how many held-out images of a dataset are training images of another; not a fault."""
    splits = tuple(name for name in held_out.splits if name != "train")
    what = f"{held_out.name} in train"
    if "train" not in training.splits or not splits:
        return Finding(training.name, what, SKIPPED, "no train or no held-out splits")
    shared = {name: _shared(held_out, (name,), training, ("train",)) for name in splits}
    if not any(shared.values()):
        return Finding(training.name, what, OK, f"no image of {'/'.join(splits)} is in train")
    total = len(_shared(held_out, splits, training, ("train",)))
    each = ", ".join(f"{name} {len(of_split):,}" for name, of_split in shared.items())
    summary = f"{total:,} held-out images are in train ({each}); see --leak-free"
    details = [
        f"{name}{_names(held_out, name, training, 'train', of_split)}"
        for name, of_split in shared.items()
        if of_split
    ]
    return Finding(training.name, what, NOTE, summary, tuple(details))


def _shared(
    one: Dataset, its: Sequence[str], other: Dataset, others: Sequence[str]
) -> set[tuple[str, int]]:
    """Returns the images of the splits `its` that are also in `others`.

    Returns:
      ("id", image id) for an image shared by id, ("picture", image id) for an image shared only by
      its bytes.
    """
    ids = image_ids(one, its) & image_ids(other, others) if same_ids(one, other) else set()
    mine, theirs = pictures(one, its), pictures(other, others)
    by_bytes = {mine[picture] for picture in mine.keys() & theirs.keys()} - ids
    return {("id", i) for i in ids} | {("picture", i) for i in by_bytes}


def _names(
    one: Dataset, split: str, other: Dataset, other_split: str, shared: set[tuple[str, int]]
) -> str:
    """Returns the names of the shared images in both splits, as text."""
    lines = []
    index, others = one.split(split).index, other.split(other_split).index
    for kind, image_id in sorted(shared)[:_NAMED]:
        row = np.flatnonzero(index.image_id == image_id)[0]
        rows = np.flatnonzero(
            others.image_id == image_id if kind == "id" else others.picture == index.picture[row]
        )
        name = _name(one, split, int(index.record[row]))
        their = _name(other, other_split, int(others.record[rows[0]]))
        lines.append(name if name == their else f"{name} is {their}")
    more = f", and {len(shared) - _NAMED:,} more" if len(shared) > _NAMED else ""
    return f": {', '.join(lines)}{more}"


def _name(built: Dataset, split: str, number: int) -> str:
    try:
        record = built.split(split).record(number)
    except (DataError, IndexError):  # a damaged dataset is a separate finding
        return f"record {number}"
    return f"{record['file_name']} (image id {record['image_id']})"
