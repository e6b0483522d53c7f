"""The types of what is read from a built data set: a record, and how the set was built."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Objects(TypedDict):
    """The o objects of an image that its sentences refer to.

    `bbox` is x, y, width and height in pixels; `mask` holds RLE counts, see `masks.decode`.
    """

    ann_id: NDArray[np.int64]  # [o]
    category_id: NDArray[np.int32]  # [o]
    category: list[str]
    bbox: NDArray[np.float32]  # [o, 4]
    area: NDArray[np.float32]  # [o]
    iscrowd: NDArray[np.int32]  # [o]
    same_category: NDArray[np.int32]  # [o]
    mask: list[bytes]


class Sentences(TypedDict):
    """The s sentences of an image, cleaned (`sent`) and as typed (`raw`).

    `kind` is what the set calls expressions of their kind, such as "relation"; "" if it does not
    say.
    """

    sent_id: NDArray[np.int64]  # [s]
    ref_id: NDArray[np.int64]  # [s]
    sent: list[str]
    raw: list[str]
    kind: list[str]


class Targets(TypedDict):
    """The t pairs of a sentence and an object it refers to, as positions in these two."""

    sentence: NDArray[np.int32]  # [t]
    object: NDArray[np.int32]  # [t]


class Record(TypedDict):
    """One image of a split; `image` is the content of its JPEG file, undecoded."""

    image: bytes
    image_id: int
    file_name: str
    height: int
    width: int
    objects: Objects
    sentences: Sentences
    targets: Targets


class BuildOptions(TypedDict):
    """The options of a build that change its content."""

    splits: list[str]  # empty for all
    max_images: int | None
    skip_bad: bool


class BuildInfo(TypedDict):
    """The content of build.json: how a data set was built."""

    dataset: str
    options: BuildOptions
    annotations: dict[str, str]  # SHA-256 by file name; empty for generated shapes
    gray_images: int
    notes: list[str]  # what the set's authors leave out, too, with its number
    skipped: list[str]  # messages of the invalid items that were left out
