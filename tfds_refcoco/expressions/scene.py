"""What is known of a picture: its annotated objects, their boxes, contacts and colours.

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

SALIENT = 0.01  # share of the picture's pixels that a referent has at least
SALIENT_SIDE = 0.05  # of the picture's shorter side: no side of its box is shorter
ANCHOR = 0.003  # share of the picture that an object in a relation has at least
TORSO = (0.18, 0.55)  # rows of a person's box that clothes are read from
SHOWN = 0.5  # of an object's own pixels: less of it is not referred to
CLOTHES_SHOWN = 0.95  # of a person whose clothes are where they are looked for
CONTACT = 2  # pixels between masks that touch, of a picture of 640
_WORKING = 320  # longer side of what colours and contacts are measured on, pixels


@dataclass(frozen=True, slots=True)
class Thing:
    """One annotated object.

    Attributes:
      ann_id: of its annotation.
      category: its name.
      box: x0, y0, x1, y1 of its mask, fractions of the picture's width and height.
      area: share of the picture's pixels.
      crowd: whether it is a group that was not told apart.
      salient: whether it is large enough to be referred to; never a crowd.
      clear: by colour the share of its pixels that clearly have it; of a person, of the clothes.
      possible: by colour the share of its pixels that may be called so.
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
        """Of the box, a fraction of the picture's width."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Of the box, a fraction of the picture's height."""
        return self.box[3] - self.box[1]

    @property
    def centre(self) -> tuple[float, float]:
        """Of the box, fractions of the picture's width and height."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True, slots=True)
class Scene:
    """The objects of one picture.

    Attributes:
      width: of the picture, pixels.
      height: of the picture, pixels.
      things: its objects, in the order of the annotations.
      contacts: pairs (i, j), i < j, of things whose masks touch or overlap.
    """

    width: int
    height: int
    things: tuple[Thing, ...]
    contacts: frozenset[tuple[int, int]] = frozenset()

    def touching(self, i: int, j: int) -> bool:
        """Whether the masks of two things touch or overlap."""
        return (min(i, j), max(i, j)) in self.contacts


class Annotation(NamedTuple):
    """What a scene is made of.

    Attributes:
      ann_id: its id.
      category: its name.
      counts: of its RLE.
      crowd: whether it is a group that was not told apart.
      shown: share of its pixels that the picture shows; less than 1 in a crop.
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
    """Measures the objects of a picture; those without a pixel inside it are left out.

    Args:
      annotations: of the picture; their counts are whole, see `masks.from_segmentation`.
      width: of the picture, pixels.
      height: of the picture, pixels.
      pixels: RGB [height, width, 3]; without, nothing is known of colours.
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
        # Contiguous by rows, which are what is counted below.
        mask = masks.decode(annotation.counts, height, width)
        thin = np.ascontiguousarray(mask[::step, ::step] > 0)
        inside.append(thin)
        read = _clothes(thin) if annotation.category == "person" else thin
        # Of a person who is cut off, nobody knows what else there is to see of the clothes.
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
    """The part of a person's mask where a shirt or jacket is."""
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
    """The largest share of each colour in either part; all of it where nobody can be sure."""
    if unsure:
        return dict.fromkeys(colours.POSSIBLE, 1.0)
    parts = (thin, read)
    found = [colours.shares(of_colour, part) for part in parts]
    return {colour: max(shares[colour] for shares in found) for colour in found[0]}


def _contacts(
    things: Sequence[Thing], inside: Sequence[NDArray[np.bool]]
) -> frozenset[tuple[int, int]]:
    found = set()
    grown: dict[int, NDArray[np.uint8]] = {}
    kernel = np.ones((2 * CONTACT + 1, 2 * CONTACT + 1), np.uint8)
    for j in range(len(things)):
        for i in range(j):
            if _apart(things[i].box, things[j].box):
                continue
            if i not in grown:
                grown[i] = np.asarray(cv2.dilate(inside[i].astype(np.uint8), kernel), np.uint8)
            if (grown[i].astype(bool) & inside[j]).any():
                found.add((i, j))
    return frozenset(found)


def _apart(a: tuple[float, ...], b: tuple[float, ...], gap: float = 0.02) -> bool:
    return any(a[k] > b[k + 2] + gap or b[k] > a[k + 2] + gap for k in (0, 1))
