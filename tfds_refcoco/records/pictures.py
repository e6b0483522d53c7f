"""Which pictures a set trains on and holds out, by their bytes, whatever their ids say."""

from collections.abc import Sequence, Set

import numpy as np

from tfds_refcoco.errors import DataError
from tfds_refcoco.records.layout import read_build
from tfds_refcoco.records.reader import Dataset


def same_ids(one: Dataset, other: Dataset) -> bool:
    """Whether the image ids of the two sets mean the same images."""
    own = {"shapes", "custom"}
    return one.name == other.name or not own & {one.name, other.name}


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
    names = train.split("+")
    dropped, doubts = set(held_out), []
    for other in others:
        splits = [name for name in other.splits if name not in names]
        if same_ids(other, training):
            dropped |= image_ids(other, splits)
        theirs = list(pictures(other, splits))
        dropped |= set(index.image_id[np.isin(index.picture, theirs)].tolist())
        said = read_build(other.path)
        if said["options"]["splits"] or said["options"]["max_images"] or said["skipped"]:
            doubts.append(f"{other.name} was built in part: more of its images may be held out")
    kept = set(index.image_id.tolist()) - dropped
    if not kept:
        raise DataError(f"{training.name}: every image of {train} is held out somewhere.")
    return sorted(kept), doubts
