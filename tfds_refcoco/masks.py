"""Conversion between COCO segmentations, run-length-encoded (RLE) masks and arrays.

A record stores a mask as the `counts` string of COCO's compressed RLE, in column-major order; it
covers all parts of an object. Notation: h, w are the height and width of the image in pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from tfds_refcoco.errors import DataError


def from_segmentation(segmentation: object, height: int, width: int) -> bytes:
    """Returns the RLE counts of a COCO segmentation, the union of all its parts.

    Args:
      segmentation: a list of polygons `[x0, y0, x1, y1, ...]` in pixels, or an RLE dictionary
        `{"size": [h, w], "counts": ...}` with a list (uncompressed) or a string (compressed).
      height: h of the image.
      width: w of the image.

    Raises:
      DataError: the segmentation is malformed or its size differs from the image's.
    """
    if isinstance(segmentation, dict):
        return _from_rle(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise DataError("segmentation: expected a non-empty list of polygons or an RLE dictionary.")
    parts = []
    for number, polygon in enumerate(segmentation):
        _check_polygon(polygon, f"segmentation[{number}]", height, width)
        # One polygon per call: pycocotools interprets a list of four numbers as a box.
        parts += coco_mask.frPyObjects([polygon], height, width)
    merged: bytes = coco_mask.merge(parts, intersect=False)["counts"]
    return merged


def decode(counts: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Returns the mask of the RLE `counts`: uint8 [h, w] of 0 and 1.

    Raises:
      DataError: the counts are malformed or do not cover exactly h·w pixels.
    """
    # pycocotools returns uninitialised memory if the counts end early, so it is not used here.
    return _expand(_runs(counts), height, width)


def encode(mask: NDArray[Any]) -> bytes:
    """Returns the RLE counts of `mask` [h, w], bool or integer, nonzero inside.

    Raises:
      DataError: the mask does not have two dimensions.
    """
    if mask.ndim != 2:
        raise DataError(f"mask: expected shape [h, w], got {list(mask.shape)}.")
    counts: bytes = coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))["counts"]
    return counts


def union(parts: Sequence[bytes], height: int, width: int) -> bytes:
    """Returns the RLE counts of the union of RLE masks; an empty mask if `parts` is empty.

    Raises:
      DataError: there are several parts, and the counts of one are malformed or do not cover
        exactly h·w pixels.
    """
    if len(parts) == 1:
        return parts[0]
    # pycocotools' merge writes out of bounds if the counts have many empty runs.
    inside = np.zeros((height, width), np.uint8)
    for part in parts:
        inside |= decode(part, height, width)
    return encode(inside)


def area(counts: bytes, height: int, width: int) -> int:
    """Returns the number of pixels inside the mask.

    Raises:
      DataError: the counts are malformed or do not cover exactly h·w pixels.
    """
    runs = _runs(counts)
    _check_runs(runs, height, width)
    return sum(runs[1::2])


def _from_rle(rle: dict[str, object], height: int, width: int) -> bytes:
    """Re-encodes an RLE without empty runs, which pycocotools does not support."""
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        raise DataError(f"segmentation.size: expected [h, w] = {[height, width]}, got {size}.")
    if isinstance(counts, str):
        try:
            counts = counts.encode("ascii")
        except UnicodeEncodeError as error:
            raise DataError("segmentation.counts: not an RLE string.") from error
    if isinstance(counts, bytes):
        return encode(decode(counts, height, width))
    if not isinstance(counts, list) or not all(type(run) is int for run in counts):
        raise DataError("segmentation.counts: expected a list of integers or an RLE string.")
    return encode(_expand(counts, height, width))


def _check_polygon(polygon: object, where: str, height: int, width: int) -> None:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise DataError(f"{where}: expected x, y pairs of at least three points.")
    if not all(type(value) in (int, float) and abs(value) < 1e9 for value in polygon):
        raise DataError(f"{where}: a coordinate is not a finite number.")
    # pycocotools computes in 32-bit integers and overflows silently on far-away points.
    for values, size in ((polygon[0::2], width), (polygon[1::2], height)):
        if min(values) < -size or max(values) > 2 * size:
            raise DataError(f"{where}: a coordinate is far outside the {width}x{height} image.")


def _expand(runs: Sequence[int], height: int, width: int) -> NDArray[np.uint8]:
    _check_runs(runs, height, width)
    values = np.arange(len(runs), dtype=np.int64).astype(np.uint8) & 1
    return np.repeat(values, runs).reshape(width, height).T


def _check_runs(runs: Sequence[int], height: int, width: int) -> None:
    if runs and min(runs) < 0:
        raise DataError("RLE counts: a run is negative.")
    if sum(runs) != height * width:
        raise DataError(
            f"RLE counts: the runs cover {sum(runs)} pixels, but the {width}x{height} image has "
            f"{height * width}."
        )


def _runs(counts: bytes) -> list[int]:
    """Returns the run lengths of a compressed RLE string.

    Numbers are stored in base 32, least significant digit first. From the fourth run on, the
    string stores the difference from the run two positions earlier.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for byte in counts:
        digit = byte - 48
        if not 0 <= digit < 64 or shift > 30:
            raise DataError("RLE counts: not an RLE string.")
        value |= (digit & 0x1F) << shift
        shift += 5
        if digit & 0x20:  # more digits follow
            continue
        if digit & 0x10:  # the sign bit
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise DataError("RLE counts: the string ends inside a number.")
    return runs
