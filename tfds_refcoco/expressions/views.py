"""Views of a picture: crops and mirror images, to get more pictures of the same objects.

The annotations of a view are cropped and mirrored with its pixels, and its sentences are generated
from these. For example, "left" refers to the view, and objects outside a crop are ignored.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco import masks
from tfds_refcoco.expressions.scene import Annotation

SIDES = (0.5, 0.95)  # sides of a crop, as fractions of the picture's sides
STRETCH = 1.25  # maximum factor between the aspect ratios of a crop and of its picture


class View(NamedTuple):
    """A part of a picture.

    Attributes:
      left: first column in pixels.
      top: first row in pixels.
      width: width in pixels.
      height: height in pixels.
      mirrored: whether the crop is mirrored horizontally.
    """

    left: int
    top: int
    width: int
    height: int
    mirrored: bool


def sample_views(rng: np.random.Generator, width: int, height: int, number: int) -> list[View]:
    """Samples views of a picture: its mirror image, then random crops.

    Args:
      rng: random generator.
      width: picture width in pixels.
      height: picture height in pixels.
      number: number of views.
    """
    views = [View(0, 0, width, height, True)][:number]
    while len(views) < number:
        side = rng.uniform(*SIDES)
        stretch = STRETCH ** (rng.uniform(-1, 1) / 2)
        w = max(1, round(width * min(1.0, side * stretch)))
        h = max(1, round(height * min(1.0, side / stretch)))
        left, top = (int(rng.integers(n + 1)) for n in (width - w, height - h))
        views.append(View(left, top, w, h, bool(rng.random() < 0.5)))
    return views


def view_pixels(pixels: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Returns the pixels of a view of a picture [h, w, 3]."""
    part = _cut(pixels, view)
    return np.ascontiguousarray(part)


def view_annotations(
    annotations: Sequence[Annotation], width: int, height: int, view: View
) -> list[Annotation]:
    """Returns the annotations of a view; some may be empty.

    Args:
      annotations: annotations of the picture.
      width: picture width in pixels.
      height: picture height in pixels.
      view: the view.
    """
    visible = []
    for annotation in annotations:
        mask = masks.decode(annotation.counts, height, width)
        part = _cut(mask, view)
        shown = int(np.count_nonzero(part)) / max(1, int(np.count_nonzero(mask)))
        counts = masks.encode(part)
        visible.append(annotation._replace(counts=counts, shown=annotation.shown * shown))
    return visible


def _cut(values: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    bottom, right = view.top + view.height, view.left + view.width
    part = values[view.top : bottom, view.left : right]
    return part[:, ::-1] if view.mirrored else part
