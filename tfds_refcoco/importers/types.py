"""What is read from any tool's files, before it becomes a custom.json."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Part = list[object] | dict[str, object] | Callable[[int, int], NDArray[np.bool]]
"""A COCO segmentation, or a function of height and width that draws a mask bool [h, w]."""


@dataclass
class ImportedObject:
    """One object; its mask is the union of `parts`. `where` names it in messages."""

    parts: list[Part]
    category: str
    where: str
    ann_id: int | None = None
    crowd: bool = False


@dataclass(frozen=True)
class ImportedSentence:
    """One sentence; `targets` are positions in the image's `objects`, none for no target."""

    text: str
    targets: tuple[int, ...]
    sent_id: int | None = None


@dataclass
class ImportedImage:
    """One image.

    Attributes:
      path: of its file; COCO's is not looked for unless there are sentences about the image.
      name: that the annotations give to it.
      size: width and height that the annotations were made for, None if they do not say so.
      split: as the tool names it, None if it has none.
      where: names it in messages.
      objects: all that are annotated.
      sentences: about them.
      image_id: of the tool, None if it has none.
    """

    path: Path
    name: str
    size: tuple[int, int] | None
    split: str | None
    where: str
    objects: list[ImportedObject] = field(default_factory=list)
    sentences: list[ImportedSentence] = field(default_factory=list)
    image_id: int | None = None
