"""From an image and a mask of any size to the network's square input and targets.

Coordinates have half-pixel centres throughout: pixel i covers [i, i + 1) and its centre is i + ½.
"""

import contextlib
import functools
from typing import Literal, NamedTuple

import cv2
import numpy as np

Resize = Literal["letterbox", "squash"]

# Sentences are read by as many threads as one asks for; OpenCV's own would only be in their way.
cv2.setNumThreads(0)

GRAY = 128  # of the letterbox's border: 0.5, as MCN (Luo et al., CVPR 2020) has it


class Placement(NamedTuple):
    """Where a source image lies in the square input, in pixels."""

    source_height: int
    source_width: int
    top: int
    left: int
    height: int
    width: int


def place(height: int, width: int, size: int, resize: Resize) -> Placement:
    """Fits a `height` × `width` image into `size` × `size`: centred and whole, or squashed."""
    if resize == "squash":
        return Placement(height, width, 0, 0, size, size)
    if resize != "letterbox":
        raise ValueError(f"data.resize must be 'letterbox' or 'squash', not {resize!r}")
    scale = size / max(height, width)
    fitted_h = max(1, round(height * scale))
    fitted_w = max(1, round(width * scale))
    top, left = (size - fitted_h) // 2, (size - fitted_w) // 2
    return Placement(height, width, top, left, fitted_h, fitted_w)


def decode_image(jpeg: bytes) -> np.ndarray:
    """Decodes a JPEG, or a PNG, to RGB, uint8 `[h, w, 3]`, as it lies in the file.

    The orientation tag is ignored: COCO's annotations are drawn on the stored pixels.
    """
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image = None
    if jpeg.startswith((b"\xff\xd8", b"\x89PNG")):  # no other of OpenCV's many decoders
        with contextlib.suppress(cv2.error):  # of more than 2^30 pixels
            image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags)
    if image is None:
        raise ValueError("the record's image is no JPEG or PNG that can be decoded")
    return image


def fit_image(
    image: np.ndarray, placement: Placement, size: int, out: np.ndarray | None = None
) -> np.ndarray:
    """Resizes uint8 `[h, w, 3]` bilinearly into uint8 `[size, size, 3]` with a gray border.

    Args:
      image: to fit.
      placement: where it comes to lie.
      size: side of the square.
      out: uint8 `[size, size, 3]` to write to, as a place in a batch; a new array where None.
    """
    p, square = placement, np.empty((size, size, 3), np.uint8) if out is None else out
    bottom, right = p.top + p.height, p.left + p.width
    for border in (square[: p.top], square[bottom:], square[:, : p.left], square[:, right:]):
        border[...] = GRAY
    inside = square[p.top : bottom, p.left : right]
    cv2.resize(image, (p.width, p.height), dst=inside, interpolation=cv2.INTER_LINEAR)
    return square


def fit_mask(mask: np.ndarray, placement: Placement, size: int, stride: int) -> np.ndarray:
    """Samples uint8 `[h, w]` at the centres of the grid's cells: `[size/stride, size/stride]`.

    Cells in the letterbox's border are 0.
    """
    to, (y, x) = _cells(placement, size, stride)
    out = np.zeros((size // stride, size // stride), np.uint8)
    # Columns first: a decoded mask lies column by column.
    out[to] = mask.T.take(x, axis=0).take(y, axis=1).T
    return out


@functools.lru_cache(maxsize=1024)  # many images have the same size
def _cells(
    p: Placement, size: int, stride: int
) -> tuple[tuple[slice, slice], tuple[np.ndarray, np.ndarray]]:
    """Returns the grid's cells that lie in the image, and the rows and columns at their centres."""
    centres = (np.arange(size // stride) + 0.5) * stride
    y = np.floor((centres - p.top) * p.source_height / p.height).astype(int)
    x = np.floor((centres - p.left) * p.source_width / p.width).astype(int)
    rows = np.flatnonzero((y >= 0) & (y < p.source_height))
    columns = np.flatnonzero((x >= 0) & (x < p.source_width))
    # A very long image may lie between the centres of two rows of cells.
    to = tuple(slice(i[0], i[-1] + 1) if len(i) else slice(0, 0) for i in (rows, columns))
    return (to[0], to[1]), (y[rows], x[columns])


def map_to_image(
    grid: np.ndarray, placement: Placement, size: int, height: int, width: int
) -> np.ndarray:
    """Interpolates a map over the square input bilinearly over its image, of any resolution.

    As `lts_jax.steps.original_size.to_original_size`, for pictures.

    Args:
      grid: float `[G, G]`.
      placement: of the image.
      size: side of the square input, pixels.
      height: of the result.
      width: of the result.

    Returns:
      Float32 `[height, width]`.
    """
    p, g = placement, len(grid)

    def cells(n: int, offset: int, fitted: int) -> tuple[np.ndarray, np.ndarray]:
        """The lower of the two cells around the centre of each pixel, and the other's weight."""
        centre = ((np.arange(n) + 0.5) * fitted / n + offset) * g / size - 0.5
        centre = np.clip(centre, 0, g - 1)
        low = np.minimum(centre.astype(np.intp), g - 2)
        return low, (centre - low).astype(np.float32)

    # Neither a matrix product, whose threads would wait for those of XLA, nor OpenCV, which
    # rounds the weights.
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
