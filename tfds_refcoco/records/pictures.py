"""Which pictures a set trains on and holds out, by their bytes, whatever their ids say."""

from collections.abc import Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.custom import COPIED
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

    What is held out, see `held_out_rows`.

    Args:
      training: the set to train on.
      others: the sets beside it; may hold `training` itself.
      held_out: further ids of images of `training`.
      train: name of the training split of all sets; a+b joins two.

    Raises:
      DataError: there is no such split, or nothing is left of it.
    """
    index = training.split(train).index
    sets = {built.name: built for built in (*others, training)}
    rows = held_out_rows(tuple(sets.values()), train, {training.name: held_out})[training.name]
    kept = set(index.image_id.tolist()) - set(index.image_id[rows].tolist())
    if not kept:
        raise DataError(f"{training.name}: every image of {train} is held out somewhere.")
    return sorted(kept), [doubt for built in sets.values() for doubt in doubts_about(built)]


def doubts_about(built: Dataset) -> list[str]:
    """Says that a set may hold out more than is there, or train on what is not recognized."""
    said = read_build(built.path)
    doubts = [f"{built.name}: {note}" for note in said["notes"] if note.endswith(COPIED)]
    if said["options"]["splits"] or said["options"]["max_images"] or said["skipped"]:
        doubts.append(f"{built.name} was built in part: more of its images may be held out")
    return doubts


def held_out_rows(
    sets: Sequence[Dataset], train: str, listed: Mapping[str, Set[int]] | None = None
) -> dict[str, NDArray[np.bool]]:
    """Finds the training sentences of several sets whose picture one of the sets holds out.

    A picture is held out if another split of a set has its bytes or, of COCO's sets, its id. What
    is found by its id may be other bytes, which a further set has under no such id: so its bytes
    and ids are looked for again, until nothing more is found.

    Args:
      sets: of different names.
      train: name of the training split of each; a+b joins two.
      listed: ids of further held-out images by the name of their set.

    Returns:
      Bool `[sentences]` of the training split of each set that has one, by the set's name.
    """
    names = [name.strip() for name in train.split("+")]
    coco = {built.name: built.name not in OWN for built in sets}
    own = {built.name: [name for name in names if name in built.splits] for built in sets}
    indices = {s.name: s.split("+".join(own[s.name])).index for s in sets if own[s.name]}
    bytes_of: set[int] = set()
    ids: set[int] = set()
    for name, of_set in (listed or {}).items():
        if coco[name]:
            ids |= of_set
        else:
            index = indices[name]
            bytes_of.update(index.picture[np.isin(index.image_id, list(of_set))].tolist())
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
