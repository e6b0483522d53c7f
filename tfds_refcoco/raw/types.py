"""What is read from raw files of any layout, before it becomes records."""

from collections.abc import Mapping
from dataclasses import dataclass

from tfds_refcoco.raw.files import RawFile

SPLITS = ("train", "val", "test", "testA", "testB")


@dataclass(frozen=True)
class RawObject:
    """One object that is referred to.

    Attributes:
      ann_id: of its annotation.
      category_id: of its category.
      category: its name, "" if it has none.
      bbox: x, y, width, height in pixels.
      area: in pixels, as the annotation gives it.
      iscrowd: 1 if it is a group that was not told apart.
      same_category: annotations of its category in the image, itself included, crowds not.
      segmentation: a COCO segmentation (see `masks.from_segmentation`), or the place of a PNG.
    """

    ann_id: int
    category_id: int
    category: str
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: int
    same_category: int
    segmentation: object


@dataclass(frozen=True)
class RawSentence:
    """One expression.

    `targets` are positions in the image's `objects`, none for no target; `kind` is what the set
    calls expressions of its kind, such as "relation", "" if it does not say.
    """

    sent_id: int
    ref_id: int
    sent: str
    raw: str
    targets: tuple[int, ...]
    kind: str = ""


@dataclass(frozen=True)
class RawImage:
    """One image of a split with the objects referred to and their sentences; sizes in pixels.

    `where` says in a message where the image is named, `formats` which files it may be.
    """

    file: RawFile
    image_id: int
    file_name: str
    height: int
    width: int
    objects: tuple[RawObject, ...]
    sentences: tuple[RawSentence, ...]
    where: str
    formats: tuple[str, ...] = ("JPEG",)


RawSplits = Mapping[str, tuple[RawImage, ...]]
