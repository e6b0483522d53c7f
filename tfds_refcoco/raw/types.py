"""Types of the raw data, before conversion to records."""

from collections.abc import Mapping
from dataclasses import dataclass

from tfds_refcoco.raw.files import RawFile

SPLITS = ("train", "val", "test", "testA", "testB")


@dataclass(frozen=True)
class RawObject:
    """One referred object.

    Attributes:
      ann_id: annotation id.
      category_id: category id.
      category: category name, or "".
      bbox: x, y, width, height in pixels.
      area: the annotated area in pixels.
      iscrowd: 1 if the annotation covers a group of objects, else 0.
      same_category: number of annotations of its category in the image, including itself but
        without crowds.
      segmentation: a COCO segmentation; see `masks.from_segmentation`.
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

    `targets` are positions in the image's `objects`, empty for no target. `kind` is the dataset's
    type of the expression, such as "relation", or "".
    """

    sent_id: int
    ref_id: int
    sent: str
    raw: str
    targets: tuple[int, ...]
    kind: str = ""


@dataclass(frozen=True)
class RawImage:
    """One image of a split with its referred objects and sentences; sizes in pixels.

    `where` is the location of the image's entry for error messages; `formats` are the allowed file
    formats.
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
