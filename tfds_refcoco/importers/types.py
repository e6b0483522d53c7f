"""Types of imported annotations, before conversion to a custom.json."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Part = list[object] | dict[str, object] | Callable[[int, int], NDArray[np.bool]]
"""A COCO segmentation, or a function of height and width that draws a mask bool [h, w]."""


@dataclass
class ImportedObject:
    """One object. Its mask is the union of `parts`; `where` is its location for error messages."""

    parts: list[Part]
    category: str
    where: str
    ann_id: int | None = None
    crowd: bool = False


@dataclass(frozen=True)
class ImportedSentence:
    """One sentence; `targets` are positions in the image's `objects`, empty for no target."""

    text: str
    targets: tuple[int, ...]
    sent_id: int | None = None


@dataclass
class ImportedImage:
    """One image.

    Attributes:
      path: path of the file; in COCO imports only resolved for images with sentences.
      name: name in the annotations.
      size: annotated width and height, or None.
      split: the tool's name of the split, or None.
      where: location of the image for error messages.
      objects: all annotated objects.
      sentences: the sentences about the objects.
      image_id: the tool's image id, or None.
    """

    path: Path
    name: str
    size: tuple[int, int] | None
    split: str | None
    where: str
    objects: list[ImportedObject] = field(default_factory=list)
    sentences: list[ImportedSentence] = field(default_factory=list)
    image_id: int | None = None
