"""The content of a picture: its annotated objects, their boxes, contacts and colours.

Coordinates are pixels with x to the right and y down, or fractions of the picture's extent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from tfds_refcoco import masks
from tfds_refcoco.expressions import colours

SALIENT = 0.01  # minimum area of a referent, as a fraction of the picture
SALIENT_SIDE = 0.05  # minimum side of its box, as a fraction of the picture's shorter side
ANCHOR = 0.003  # minimum area of an anchor, as a fraction of the picture
TORSO = (0.18, 0.55)  # rows of a person's box that are used for the colours of clothes
SHOWN = 0.5  # minimum visible fraction of a referent's mask
CLOTHES_SHOWN = 0.95  # minimum visible fraction of a person to determine the colours of clothes
CONTACT = 2  # distance of touching masks, in pixels at the working resolution
_WORKING = 320  # longer side of the working resolution for colours and contacts, in pixels


@dataclass(frozen=True, slots=True)
class Thing:
    """One annotated object.

    Attributes:
      ann_id: annotation id.
      category: category name.
      box: x0, y0, x1, y1 of its mask, as fractions of the picture's width and height.
      area: area as a fraction of the picture.
      crowd: whether the annotation covers a group of objects.
      salient: whether it is large enough for a referent; always False for crowds.
      clear: by colour, the fraction of pixels (of the clothes for people) that clearly match.
      possible: by colour, the fraction of pixels that possibly match.
    """

    ann_id: int
    category: str
    box: tuple[float, float, float, float]
    area: float
    crowd: bool = False
    salient: bool = True
    clear: Mapping[str, float] = field(default_factory=dict)
    possible: Mapping[str, float] = field(default_factory=dict)

    @property
    def width(self) -> float:
        """Width of the box, as a fraction of the picture's width."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Height of the box, as a fraction of the picture's height."""
        return self.box[3] - self.box[1]

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box, as fractions of the picture's width and height."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True, slots=True)
class Scene:
    """The objects of one picture.

    Attributes:
      width: picture width in pixels.
      height: picture height in pixels.
      things: the objects in the order of the annotations.
      contacts: pairs (i, j), i < j, of objects whose masks touch or overlap.
    """

    width: int
    height: int
    things: tuple[Thing, ...]
    contacts: frozenset[tuple[int, int]] = frozenset()

    def touching(self, i: int, j: int) -> bool:
        """Whether the masks of two objects touch or overlap."""
        return (min(i, j), max(i, j)) in self.contacts


class Annotation(NamedTuple):
    """An annotation of a picture or view.

    Attributes:
      ann_id: annotation id.
      category: category name.
      counts: RLE counts of the mask.
      crowd: whether the annotation covers a group of objects.
      shown: visible fraction of its pixels; less than 1 in a crop.
    """

    ann_id: int
    category: str
    counts: bytes
    crowd: bool
    shown: float = 1.0


def make_scene(
    annotations: Sequence[Annotation],
    width: int,
    height: int,
    pixels: NDArray[np.uint8] | None = None,
) -> Scene:
    """Measures the objects of a picture; objects with empty masks are skipped.

    Args:
      annotations: the picture's annotations, with counts from `masks.from_segmentation`.
      width: picture width in pixels.
      height: picture height in pixels.
      pixels: RGB [height, width, 3]; if None, colours are unknown.
    """
    step = max(1, round(max(width, height) / _WORKING))
    clear = possible = None
    if pixels is not None and not colours.is_gray(pixels):
        small = cv2.resize(
            pixels, (-(-width // step), -(-height // step)), interpolation=cv2.INTER_AREA
        )
        reduced: NDArray[np.uint8] = np.asarray(small, np.uint8)
        clear = colours.maps(reduced, colours.CLEAR)
        possible = colours.maps(reduced, colours.POSSIBLE)
    things: list[Thing] = []
    inside: list[NDArray[np.bool]] = []
    for annotation in annotations:
        rle = {"size": [height, width], "counts": annotation.counts}
        area = masks.area(annotation.counts, height, width) / (width * height)
        if not area:
            continue
        x, y, w, h = (float(value) for value in coco_mask.toBbox(rle))
        x0, y0, x1, y1 = x / width, y / height, (x + w) / width, (y + h) / height
        short = min((x1 - x0) * width, (y1 - y0) * height) / min(width, height)
        # Contiguous by rows, for the operations below.
        mask = masks.decode(annotation.counts, height, width)
        thin = np.ascontiguousarray(mask[::step, ::step] > 0)
        inside.append(thin)
        read = _clothes(thin) if annotation.category == "person" else thin
        # The clothes of a truncated person are not completely visible.
        unsure = annotation.category == "person" and annotation.shown < CLOTHES_SHOWN
        large = area >= SALIENT and short >= SALIENT_SIDE and annotation.shown >= SHOWN
        things.append(
            Thing(
                annotation.ann_id,
                annotation.category,
                (x0, y0, x1, y1),
                area,
                annotation.crowd,
                bool(not annotation.crowd and large),
                {} if clear is None or unsure else colours.shares(clear, read),
                {} if possible is None else _most(possible, thin, read, unsure),
            )
        )
    return Scene(width, height, tuple(things), _contacts(things, inside))


def _clothes(mask: NDArray[np.bool]) -> NDArray[np.bool]:
    """Returns the part of a person's mask with a shirt or jacket."""
    rows = np.flatnonzero(mask.any(1))
    part = mask.copy()
    if len(rows):
        first, size = rows[0], rows[-1] + 1 - rows[0]
        part[: first + round(TORSO[0] * size)] = False
        part[first + round(TORSO[1] * size) :] = False
    return part


def _most(
    of_colour: NDArray[np.bool], thin: NDArray[np.bool], read: NDArray[np.bool], unsure: bool
) -> dict[str, float]:
    """Returns the larger fraction of each colour in the two parts; 1 for all if unsure."""
    if unsure:
        return dict.fromkeys(colours.POSSIBLE, 1.0)
    parts = (thin, read)
    by_part = [colours.shares(of_colour, part) for part in parts]
    return {colour: max(shares[colour] for shares in by_part) for colour in by_part[0]}


def _contacts(
    things: Sequence[Thing], inside: Sequence[NDArray[np.bool]]
) -> frozenset[tuple[int, int]]:
    contacts = set()
    grown: dict[int, NDArray[np.uint8]] = {}
    kernel = np.ones((2 * CONTACT + 1, 2 * CONTACT + 1), np.uint8)
    for j in range(len(things)):
        for i in range(j):
            if _apart(things[i].box, things[j].box):
                continue
            if i not in grown:
                grown[i] = np.asarray(cv2.dilate(inside[i].astype(np.uint8), kernel), np.uint8)
            if (grown[i].astype(bool) & inside[j]).any():
                contacts.add((i, j))
    return frozenset(contacts)


def _apart(a: tuple[float, ...], b: tuple[float, ...], gap: float = 0.02) -> bool:
    return any(a[k] > b[k + 2] + gap or b[k] > a[k + 2] + gap for k in (0, 1))
