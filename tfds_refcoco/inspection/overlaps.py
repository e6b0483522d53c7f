"""Pictures that splits, or data sets, share: by their bytes, whatever their ids say."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from tfds_refcoco.errors import DataError
from tfds_refcoco.inspection.findings import NOTE, OK, SKIPPED, Finding, judge
from tfds_refcoco.inspection.published import DISJOINT_BY_IMAGE
from tfds_refcoco.records.pictures import image_ids, pictures, same_ids
from tfds_refcoco.records.reader import Dataset

_NAMED = 8  # shared pictures named in a finding


def find_disjoint(built: Dataset) -> Finding:
    """Says which pictures the splits of a set share: the same bytes or, of COCO, the same id."""
    faults = []
    for one, other in combinations(built.splits, 2):
        shared = _shared(built, (one,), built, (other,))
        if shared:
            names = _names(built, one, built, other, shared)
            faults += [f"{one} and {other} share {len(shared):,} images{names}"]
    known = "" if built.name in DISJOINT_BY_IMAGE else "the splits need not be disjoint by image"
    return judge(built.name, "splits", faults, "share no image", known=known)


def find_repeated(built: Dataset) -> Finding:
    """Says which pictures a split holds more than once, under several ids."""
    total, details = 0, []
    for name in built.splits:
        index = built.split(name).index
        _, first = np.unique(index.record, return_index=True)
        found, counts = np.unique(index.picture[first], return_counts=True)
        repeated = found[counts > 1].tolist()
        total += len(repeated)
        for picture in repeated[:_NAMED]:
            numbers = np.unique(index.record[index.picture == picture]).tolist()
            held = ", ".join(_name(built, name, number) for number in numbers[:_NAMED])
            details.append(f"{name}: one picture in {len(numbers)} records: {held}")
    if not total:
        return Finding(built.name, "pictures", OK, "each split holds a picture once")
    summary = f"{total:,} are held several times; give all their sentences to one entry"
    return Finding(built.name, "pictures", NOTE, summary, tuple(details))


def find_pretrained(built: Dataset) -> Iterator[Finding]:
    """Says which held-out images the backbones that others publish for such sets were trained on.

    MCN's and SimREC's left out RefCOCO's and RefCOCO+'s val and test images (UNC) and RefCOCOg's
    (UMD). Of the set of all such images and of those of RefCOCOg (Google), 3,564 are left.
    """
    seen = {
        "refcoco_google": "not those of this set's val and test",
        "refcocog_google": "not 3,564 of the 4,650 of this set's val",
    }
    if built.name in seen:
        summary = (
            "the 6,549 val and test images of RefCOCO, RefCOCO+ (unc) and RefCOCOg (umd) are left "
            f"out by MCN's and SimREC's weights, {seen[built.name]}"
        )
        yield Finding(built.name, "pretraining", NOTE, summary)


def find_overlap(held_out: Dataset, training: Dataset) -> Finding:
    """Says how many held-out images of one set another one trains on; it is no fault of either."""
    splits = tuple(name for name in held_out.splits if name != "train")
    what = f"{held_out.name} in train"
    if "train" not in training.splits or not splits:
        return Finding(training.name, what, SKIPPED, "no such splits")
    shared = {name: _shared(held_out, (name,), training, ("train",)) for name in splits}
    if not any(shared.values()):
        return Finding(training.name, what, OK, f"no image of {'/'.join(splits)} is trained on")
    total = len(_shared(held_out, splits, training, ("train",)))
    each = ", ".join(f"{name} {len(of_split):,}" for name, of_split in shared.items())
    summary = f"{total:,} images held out there are trained on ({each}); see --leak-free"
    details = [
        f"{name}{_names(held_out, name, training, 'train', of_split)}"
        for name, of_split in shared.items()
        if of_split
    ]
    return Finding(training.name, what, NOTE, summary, tuple(details))


def _shared(
    one: Dataset, its: Sequence[str], other: Dataset, others: Sequence[str]
) -> set[tuple[str, int]]:
    """Returns the images of the splits `its` that `others` have, too.

    Returns:
      ("id", image id) of an image that they share by its id, ("picture", `Index.picture`) of one
      that they share by its bytes alone.
    """
    ids = image_ids(one, its) & image_ids(other, others) if same_ids(one, other) else set()
    mine, theirs = pictures(one, its), pictures(other, others)
    by_bytes = {mine[picture] for picture in mine.keys() & theirs.keys()} - ids
    return {("id", i) for i in ids} | {("picture", i) for i in by_bytes}


def _names(
    one: Dataset, split: str, other: Dataset, other_split: str, shared: set[tuple[str, int]]
) -> str:
    """Returns which images of `split` those are, and which ones of the other, as text."""
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
    except (DataError, IndexError):  # a damaged set is another finding
        return f"record {number}"
    return f"{record['file_name']} (image id {record['image_id']})"
