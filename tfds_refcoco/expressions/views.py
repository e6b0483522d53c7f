"""Crops and mirror images of a picture: more pictures of the objects that there are.

A view has an annotation of its own, cut and mirrored with its pixels, and its sentences are made
from that: what is on the left in a view is called so, and what a crop leaves out is no rival.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco import masks
from tfds_refcoco.expressions.scene import Annotation

SIDES = (0.5, 0.95)  # of a crop, shares of the picture's sides
STRETCH = 1.25  # a crop's width to height differs from the picture's by this factor at most


class View(NamedTuple):
    """A part of a picture.

    Attributes:
      left: first column, pixels.
      top: first row, pixels.
      width: of the part, pixels.
      height: of the part, pixels.
      mirrored: whether left and right are exchanged, after it is cut out.
    """

    left: int
    top: int
    width: int
    height: int
    mirrored: bool


def sample_views(rng: np.random.Generator, width: int, height: int, number: int) -> list[View]:
    """Draws views of a picture of `width` × `height` pixels: its mirror image, then random crops.

    Args:
      rng: decides about the crops.
      width: of the picture.
      height: of the picture.
      number: of views.
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
    """Returns the pixels of a view of [h, w, 3]."""
    part = _cut(pixels, view)
    return np.ascontiguousarray(part)


def view_annotations(
    annotations: Sequence[Annotation], width: int, height: int, view: View
) -> list[Annotation]:
    """Returns what a view shows of the annotations of a picture; some may be empty there.

    Args:
      annotations: of the picture.
      width: of the picture, pixels.
      height: of the picture, pixels.
      view: of it.
    """
    found = []
    for annotation in annotations:
        mask = masks.decode(annotation.counts, height, width)
        part = _cut(mask, view)
        shown = int(np.count_nonzero(part)) / max(1, int(np.count_nonzero(mask)))
        counts = masks.encode(part)
        found.append(annotation._replace(counts=counts, shown=annotation.shown * shown))
    return found


def _cut(values: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    bottom, right = view.top + view.height, view.left + view.width
    part = values[view.top : bottom, view.left : right]
    return part[:, ::-1] if view.mirrored else part
