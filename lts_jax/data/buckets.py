"""Buckets of static shapes for images of any size, so that few programs are compiled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SIDE = 640  # pixels; the largest side of COCO images


class Bucket(NamedTuple):
    """Images of similar size.

    Attributes:
      canvas: height and width in pixels that fit all the images; the width is a multiple of 8.
      groups: rows of the index, grouped by image.
    """

    canvas: tuple[int, int]
    groups: list[np.ndarray]


def fitting(height: int, width: int) -> tuple[int, int]:
    """Returns height and width of the image's size class: 640 pixels, doubled until they fit."""
    return _fit(height), _fit(width)


def buckets(groups: Sequence[np.ndarray], height: np.ndarray, width: np.ndarray) -> list[Bucket]:
    """Groups images into one canvas per size class, smallest first.

    Args:
      groups: rows of an index, grouped by image.
      height: int `[N]`, image height of each row in pixels.
      width: int `[N]`, image width of each row in pixels.
    """
    by_class: dict[tuple[int, int], list[np.ndarray]] = {}
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    # Use all rows, not only the groups: processes that share a split then compile the same shapes.
    for h, w in np.unique(np.stack([height, width], axis=1), axis=0):
        key = fitting(int(h), int(w))
        most = sizes.get(key, (0, 0))
        sizes[key] = max(most[0], int(h)), max(most[1], -(-int(w) // 8) * 8)
    for rows in groups:
        key = fitting(int(height[rows[0]]), int(width[rows[0]]))
        by_class.setdefault(key, []).append(rows)
    return [Bucket(sizes[key], by_class[key]) for key in sorted(by_class)]


def batch_size(wanted: int, canvas: tuple[int, int]) -> int:
    """Returns the batch size that needs the memory of `wanted` sentences at 640 × 640 pixels."""
    return max(1, min(wanted, wanted * SIDE * SIDE // (canvas[0] * canvas[1])))


def _fit(n: int) -> int:
    side = SIDE
    while side < n:
        side *= 2
    return side
