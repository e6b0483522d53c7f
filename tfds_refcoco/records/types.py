"""Types of a built dataset: a record, and the content of build.json."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Objects(TypedDict):
    """The o objects that the sentences of an image refer to.

    `bbox` is x, y, width and height in pixels; `mask` holds RLE counts; see `masks.decode`.
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

    `kind` is the dataset's type of the expression, such as "relation", or "".
    """

    sent_id: NDArray[np.int64]  # [s]
    ref_id: NDArray[np.int64]  # [s]
    sent: list[str]
    raw: list[str]
    kind: list[str]


class Targets(TypedDict):
    """The t pairs of a sentence and its target, as positions in `sentences` and `objects`."""

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
    """The build options that affect the content."""

    splits: list[str]  # empty for all
    max_images: int | None
    skip_bad: bool


class BuildInfo(TypedDict):
    """The content of build.json: how a dataset was built."""

    dataset: str
    options: BuildOptions
    annotations: dict[str, str]  # SHA-256 by file name; empty for generated shapes
    gray_images: int
    notes: list[str]  # number of items that the dataset's authors leave out, etc.
    skipped: list[str]  # error messages of the skipped items
