"""Maps images and masks of any size to the network's square input and targets.

All coordinates have half-pixel centers: pixel i covers [i, i + 1), and its center is i + ½.
"""

import contextlib
import functools
from typing import Literal, NamedTuple

import cv2
import numpy as np

Resize = Literal["letterbox", "squash"]

# The pipeline already reads in parallel; OpenCV's threads would compete with it.
cv2.setNumThreads(0)

GRAY = 128  # color of the letterbox border: 0.5, as in MCN (Luo et al., CVPR 2020)


class Placement(NamedTuple):
    """The position of a source image in the square input, in pixels."""

    source_height: int
    source_width: int
    top: int
    left: int
    height: int
    width: int


def place(height: int, width: int, size: int, resize: Resize) -> Placement:
    """Fits a `height` × `width` image into `size` × `size`: centered letterbox, or squashed."""
    if resize == "squash":
        return Placement(height, width, 0, 0, size, size)
    if resize != "letterbox":
        raise ValueError(f"data.resize={resize!r} must be 'letterbox' or 'squash'")
    scale = size / max(height, width)
    fitted_h = max(1, round(height * scale))
    fitted_w = max(1, round(width * scale))
    top, left = (size - fitted_h) // 2, (size - fitted_w) // 2
    return Placement(height, width, top, left, fitted_h, fitted_w)


def decode_image(jpeg: bytes) -> np.ndarray:
    """Decodes a JPEG or PNG to RGB, uint8 `[h, w, 3]`.

    Ignores the orientation tag: COCO's annotations refer to the stored pixels.
    """
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image = None
    if jpeg.startswith((b"\xff\xd8", b"\x89PNG")):  # excludes OpenCV's other decoders
        with contextlib.suppress(cv2.error):  # raised for more than 2^30 pixels
            image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags)
    if image is None:
        raise ValueError("the record's image is not a valid JPEG or PNG")
    return image


def fit_image(
    image: np.ndarray, placement: Placement, size: int, out: np.ndarray | None = None
) -> np.ndarray:
    """Resizes uint8 `[h, w, 3]` bilinearly into uint8 `[size, size, 3]` with a gray border.

    Args:
      image: the image to resize.
      placement: position of the result in the square.
      size: side of the square in pixels.
      out: uint8 `[size, size, 3]` to write to, such as a row of a batch; None for a new array.
    """
    p, square = placement, np.empty((size, size, 3), np.uint8) if out is None else out
    bottom, right = p.top + p.height, p.left + p.width
    for border in (square[: p.top], square[bottom:], square[:, : p.left], square[:, right:]):
        border[...] = GRAY
    inside = square[p.top : bottom, p.left : right]
    cv2.resize(image, (p.width, p.height), dst=inside, interpolation=cv2.INTER_LINEAR)
    return square


def fit_mask(mask: np.ndarray, placement: Placement, size: int, stride: int) -> np.ndarray:
    """Samples uint8 `[h, w]` at the centers of the grid's cells: `[size/stride, size/stride]`.

    Cells in the letterbox border are 0.
    """
    to, (y, x) = _cells(placement, size, stride)
    out = np.zeros((size // stride, size // stride), np.uint8)
    # Columns first: decoded masks are stored in column-major order.
    out[to] = mask.T.take(x, axis=0).take(y, axis=1).T
    return out


@functools.lru_cache(maxsize=1024)  # many images have the same size
def _cells(
    p: Placement, size: int, stride: int
) -> tuple[tuple[slice, slice], tuple[np.ndarray, np.ndarray]]:
    """Returns the grid's cells in the image, and the image rows and columns at their centers."""
    centres = (np.arange(size // stride) + 0.5) * stride
    y = np.floor((centres - p.top) * p.source_height / p.height).astype(int)
    x = np.floor((centres - p.left) * p.source_width / p.width).astype(int)
    rows = np.flatnonzero((y >= 0) & (y < p.source_height))
    columns = np.flatnonzero((x >= 0) & (x < p.source_width))
    # A very elongated image may fall between the centers of two rows of cells.
    to = tuple(slice(i[0], i[-1] + 1) if len(i) else slice(0, 0) for i in (rows, columns))
    return (to[0], to[1]), (y[rows], x[columns])


def map_to_image(
    grid: np.ndarray, placement: Placement, size: int, height: int, width: int
) -> np.ndarray:
    """Resamples a map of the square input bilinearly to its image, at any resolution.

    Does the same as `lts_jax.steps.original_size.to_original_size`, for pictures.

    Args:
      grid: float `[G, G]`.
      placement: placement of the image in the square input.
      size: side of the square input in pixels.
      height: height of the result.
      width: width of the result.

    Returns:
      Float32 `[height, width]`.
    """
    p, g = placement, len(grid)

    def cells(n: int, offset: int, fitted: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the lower of the two cells around each pixel's center, and the other's weight."""
        centre = ((np.arange(n) + 0.5) * fitted / n + offset) * g / size - 0.5
        centre = np.clip(centre, 0, g - 1)
        low = np.minimum(centre.astype(np.intp), g - 2)
        return low, (centre - low).astype(np.float32)

    # Neither a matrix product, whose threads would compete with XLA's, nor OpenCV, which rounds
    # the weights.
    low, weight = cells(width, p.left, p.width)
    columns = grid.astype(np.float32).T
    columns = np.ascontiguousarray(
        (columns[low] + weight[:, None] * (columns[low + 1] - columns[low])).T
    )
    low, weight = cells(height, p.top, p.height)
    out: np.ndarray = np.diff(columns, axis=0)[low]
    out *= weight[:, None]
    out += columns[low]
    return out
