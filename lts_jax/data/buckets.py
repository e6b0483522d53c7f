"""Fixed shapes for images of any size, so that few programs are compiled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SIDE = 640  # pixels; COCO's images are no larger


class Bucket(NamedTuple):
    """Images of about one size.

    Attributes:
      canvas: height and width that hold every one of them, pixels; the width a multiple of 8.
      groups: rows of the index by image.
    """

    canvas: tuple[int, int]
    groups: list[np.ndarray]


def fitting(height: int, width: int) -> tuple[int, int]:
    """Height and width of the class of canvas of an image: 640 pixels, doubled until they hold."""
    return _fit(height), _fit(width)


def buckets(groups: Sequence[np.ndarray], height: np.ndarray, width: np.ndarray) -> list[Bucket]:
    """Sorts images into as few canvases as there are classes of sizes, the smallest first.

    Args:
      groups: rows of an index by image.
      height: int `[N]` by row, pixels.
      width: int `[N]` by row, pixels.
    """
    by_class: dict[tuple[int, int], list[np.ndarray]] = {}
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    # Over all rows and not the groups: processes that share a split then compile the same shapes.
    for h, w in np.unique(np.stack([height, width], axis=1), axis=0):
        key = fitting(int(h), int(w))
        most = sizes.get(key, (0, 0))
        sizes[key] = max(most[0], int(h)), max(most[1], -(-int(w) // 8) * 8)
    for rows in groups:
        key = fitting(int(height[rows[0]]), int(width[rows[0]]))
        by_class.setdefault(key, []).append(rows)
    return [Bucket(sizes[key], by_class[key]) for key in sorted(by_class)]


def batch_size(wanted: int, canvas: tuple[int, int]) -> int:
    """As many sentences of a canvas as take the memory of `wanted` ones of 640 × 640."""
    return max(1, min(wanted, wanted * SIDE * SIDE // (canvas[0] * canvas[1])))


def _fit(n: int) -> int:
    side = SIDE
    while side < n:
        side *= 2
    return side
