"""Detection of pictures that are in both training and held-out splits, by bytes and ids."""

from collections.abc import Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.custom import COPIED
from tfds_refcoco.records.layout import read_build
from tfds_refcoco.records.reader import Dataset

OWN = {"shapes", "custom"}
"""Datasets whose image ids are not COCO's."""


def same_ids(one: Dataset, other: Dataset) -> bool:
    """Whether the two datasets share one set of image ids."""
    return one.name == other.name or not OWN & {one.name, other.name}


def image_ids(built: Dataset, splits: Sequence[str]) -> set[int]:
    """Returns the image ids of the splits."""
    return set().union(*(built.split(name).index.image_id.tolist() for name in splits))


def pictures(built: Dataset, splits: Sequence[str]) -> dict[int, int]:
    """Returns an image id for each picture of the splits; see `Index.picture`."""
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
    """Returns the image ids of a training split that no dataset holds out, and warnings.

    `held_out_rows` defines which images are held out.

    Args:
      training: the dataset to train on.
      others: the other datasets; may include `training`.
      held_out: further held-out image ids of `training`.
      train: name of the training split of all datasets; a+b joins two splits.

    Raises:
      DataError: the split does not exist, or every image of it is held out.
    """
    index = training.split(train).index
    sets = {built.name: built for built in (*others, training)}
    rows = held_out_rows(tuple(sets.values()), train, {training.name: held_out})[training.name]
    kept = set(index.image_id.tolist()) - set(index.image_id[rows].tolist())
    if not kept:
        raise DataError(f"{training.name}: every image of {train} is held out by a dataset.")
    return sorted(kept), [doubt for built in sets.values() for doubt in doubts_about(built)]


def doubts_about(built: Dataset) -> list[str]:
    """Returns warnings that held-out pictures of a dataset may not be detected."""
    info = read_build(built.path)
    doubts = [f"{built.name}: {note}" for note in info["notes"] if note.endswith(COPIED)]
    if info["options"]["splits"] or info["options"]["max_images"] or info["skipped"]:
        doubts.append(f"{built.name} is a partial build: it may hold out more images")
    return doubts


def held_out_rows(
    sets: Sequence[Dataset], train: str, listed: Mapping[str, Set[int]] | None = None
) -> dict[str, NDArray[np.bool]]:
    """Finds the training sentences whose picture is held out by one of several datasets.

    A picture is held out if a non-training split of a dataset contains its bytes or, in datasets of
    COCO images, its id. Two files with one id may have different bytes, so the search repeats
    with the bytes and ids of all matches until there are no new ones.

    Args:
      sets: datasets with different names.
      train: name of the training split of each dataset; a+b joins two splits.
      listed: ids of further held-out images, by dataset name.

    Returns:
      Bool `[sentences]` for each dataset that has the training split, by dataset name.
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
    held_out: dict[str, NDArray[np.bool]] = {}
    while len(bytes_of) + len(ids) != known:
        known = len(bytes_of) + len(ids)
        for name, index in indices.items():
            rows = np.isin(index.picture, list(bytes_of))
            if coco[name]:
                rows |= np.isin(index.image_id, list(ids))
                ids.update(index.image_id[rows].tolist())
            bytes_of.update(index.picture[rows].tolist())
            held_out[name] = rows
    return held_out
