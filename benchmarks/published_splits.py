"""Published splits of RefCOCO, RefCOCO+ and RefCOCOg (umd): image ids, refs and sentences.

Image ids are read from one file per split, such as `refcoco_unc_val.txt`. RefCOCO+ has RefCOCO's
images in val, testA and testB. For RefCOCOg, there is only a list for train. Of its 3,900 other
images, 3,895 are known: images of Google's train that are not in train (umd has the images of both
Google splits), and images of the held-out list that are in no other list. The remaining five are
among RefCOCO's held-out images. No list assigns them to val or test, so they are assigned randomly;
this does not affect the images that joint training excludes.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tfds_refcoco.inspection.published import PUBLISHED
from tfds_refcoco.records.imagelists import read_ids


class RawSplit(NamedTuple):
    """The images of a split and the total number of their refs and sentences."""

    ids: Sequence[int]
    refs: int
    sentences: int


class RawSet(NamedTuple):
    """A dataset: its folder, its refs file and its splits by name."""

    folder: str
    file: str
    splits: Mapping[str, RawSplit]


def read_sets(folder: Path) -> list[RawSet]:
    """Returns the three datasets from the lists in a folder.

    Raises:
      DataError: a list is missing or invalid.
      ValueError: the size of a list differs from the published number of images.
    """

    def read(name: str) -> set[int]:
        return read_ids(folder / f"{name}.txt")

    tests = {name: read(f"refcoco_unc_{name}") for name in ("val", "testA", "testB")}
    umd_train, google_train = read("refcocog_umd_train"), read("refcocog_google_train")
    known = google_train - umd_train
    known |= read("val_test_union").difference(umd_train, google_train, *tests.values())
    candidates = set().union(*tests.values()) - umd_train - google_train
    published = PUBLISHED["refcocog_umd"]
    sizes = [published[name].images or 0 for name in ("val", "test")]
    others = sorted(known) + sorted(candidates)[: sum(sizes) - len(known)]
    random.Random(0).shuffle(others)
    images = {
        "refcoco_unc": {"train": read("refcoco_unc_train"), **tests},
        "refcocoplus_unc": {"train": read("refcocoplus_unc_train"), **tests},
        "refcocog_umd": {
            "train": umd_train,
            "val": set(others[: sizes[0]]),
            "test": set(others[sizes[0] :]),
        },
    }
    files = {
        "refcoco_unc": ("refcoco", "refs(unc).p"),
        "refcocoplus_unc": ("refcoco+", "refs(unc).p"),
        "refcocog_umd": ("refcocog", "refs(umd).p"),
    }
    return [
        RawSet(*files[name], {split: _split(name, split, ids) for split, ids in of_set.items()})
        for name, of_set in images.items()
    ]


def _split(name: str, split: str, ids: set[int]) -> RawSplit:
    published = PUBLISHED[name][split]
    if len(ids) != published.images:
        raise ValueError(
            f"{name} {split}: {len(ids)} images, but {published.images} were published"
        )
    assert published.refs is not None and published.sentences is not None
    return RawSplit(sorted(ids), published.refs, published.sentences)
