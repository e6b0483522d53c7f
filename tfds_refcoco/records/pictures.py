"""Which pictures a set trains on and holds out, by their bytes, whatever their ids say."""

from collections.abc import Sequence, Set

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco.errors import DataError
from tfds_refcoco.records.layout import read_build
from tfds_refcoco.records.reader import Dataset

OWN = {"shapes", "custom"}
"""Sets whose image ids are not COCO's."""


def same_ids(one: Dataset, other: Dataset) -> bool:
    """Whether the image ids of the two sets mean the same images."""
    return one.name == other.name or not OWN & {one.name, other.name}


def image_ids(built: Dataset, splits: Sequence[str]) -> set[int]:
    """Returns the ids of the images of the splits."""
    return set().union(*(built.split(name).index.image_id.tolist() for name in splits))


def pictures(built: Dataset, splits: Sequence[str]) -> dict[int, int]:
    """Returns an image id for each picture, see `Index.picture`, of the splits."""
    indices = [built.split(name).index for name in splits]
    return {
        picture: image_id
        for index in indices
        for picture, image_id in zip(index.picture.tolist(), index.image_id.tolist(), strict=True)
    }


def leak_free(
    training: Dataset,
    others: Sequence[Dataset],
    held_out: Set[int] = frozenset(),
    train: str = "train",
) -> tuple[list[int], list[str]]:
    """Returns the ids of a training split's images that no set holds out, and doubts about that.

    An image is held out if its bytes are, under whatever id, or its id in a set of COCO's.

    Args:
      training: the set to train on.
      others: whose every other split is held out; may hold `training` itself.
      held_out: further ids.
      train: name of the training split of all sets; a+b joins two.

    Raises:
      DataError: there is no such split, or nothing is left of it.
    """
    index = training.split(train).index
    names = [name.strip() for name in train.split("+")]
    dropped, doubts = set(held_out), []
    for other in others:
        splits = [name for name in other.splits if name not in names]
        if same_ids(other, training):
            dropped |= image_ids(other, splits)
        theirs = list(pictures(other, splits))
        dropped |= set(index.image_id[np.isin(index.picture, theirs)].tolist())
        doubts += doubts_about(other)
    kept = set(index.image_id.tolist()) - dropped
    if not kept:
        raise DataError(f"{training.name}: every image of {train} is held out somewhere.")
    return sorted(kept), doubts


def doubts_about(built: Dataset) -> list[str]:
    """Says that a set may hold out more than is there."""
    said = read_build(built.path)
    if said["options"]["splits"] or said["options"]["max_images"] or said["skipped"]:
        return [f"{built.name} was built in part: more of its images may be held out"]
    return []


def held_out_rows(sets: Sequence[Dataset], train: str) -> dict[str, NDArray[np.bool]]:
    """Finds the training sentences of several sets whose picture one of the sets holds out.

    A picture is held out if another split of a set has its bytes or, of COCO's sets, its id. What
    is found by its id may be other bytes, which a further set has under no such id: so its bytes
    and ids are looked for again, until nothing more is found.

    Args:
      sets: of different names.
      train: name of the training split of each; a+b joins two.

    Returns:
      Bool `[sentences]` of each set's training split, by the set's name.
    """
    names = [name.strip() for name in train.split("+")]
    coco = {built.name: built.name not in OWN for built in sets}
    indices = {s.name: s.split(train).index for s in sets}
    bytes_of: set[int] = set()
    ids: set[int] = set()
    for built in sets:
        for split in built.splits:
            if split not in names:
                index = built.split(split).index
                bytes_of.update(index.picture.tolist())
                if coco[built.name]:
                    ids.update(index.image_id.tolist())
    known = -1
    found: dict[str, NDArray[np.bool]] = {}
    while len(bytes_of) + len(ids) != known:
        known = len(bytes_of) + len(ids)
        for name, index in indices.items():
            rows = np.isin(index.picture, list(bytes_of))
            if coco[name]:
                rows |= np.isin(index.image_id, list(ids))
                ids.update(index.image_id[rows].tolist())
            bytes_of.update(index.picture[rows].tolist())
            found[name] = rows
    return found
