"""Resizes images to the network's square input, and masks back; pixel centres are at 0.5."""

from typing import Any

import numpy as np


def fit(image: np.ndarray, spec: dict[str, Any]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Resizes an image, uint8 [h, w, 3], and pads it to a square.

    Returns the square, and (h, w, top, left, height, width), the last four of the image within the
    square. The bilinear interpolation is bitwise equal to OpenCV's.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"image: expected RGB, uint8 [h, w, 3], got {image.dtype} {list(image.shape)}"
        )
    (h, w, _), size = image.shape, spec["image_size"]
    scale = size / max(h, w)
    squash = spec["resize"] == "squash"
    inside = (size, size) if squash else (max(1, round(h * scale)), max(1, round(w * scale)))
    top, left = ((size - n) // 2 for n in inside)
    (y, below, wy), (x, beside, wx) = map(_taps, inside, (h, w))
    rows = (image[:, x] * (2048 - wx) + image[:, beside] * wx) >> 4
    wy = wy[:, None]
    fitted = ((rows[y] * (2048 - wy) >> 16) + (rows[below] * wy >> 16) + 2) >> 2
    square = np.full((size, size, 3), spec["border"], np.uint8)
    square[top : top + inside[0], left : left + inside[1]] = fitted
    return square, (h, w, top, left, *inside)


def unfit(mask: np.ndarray, place: tuple[int, ...], spec: dict[str, Any]) -> np.ndarray:
    """Resamples probabilities [G, G] bilinearly to the original image, [h, w]."""
    cells, weights = np.arange(len(mask)), list[np.ndarray]()
    for n, offset, fitted in zip(place[:2], place[2:4], place[4:], strict=True):
        at = ((np.arange(n) + 0.5) * (fitted / n) + offset) / (spec["image_size"] / len(mask)) - 0.5
        distance = np.abs(at.clip(0, len(mask) - 1)[:, None] - cells)
        weights.append(np.maximum(0, 1 - distance).astype(np.float32))
    return np.asarray(weights[0] @ mask @ weights[1].T)


def _taps(n: int, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the two source pixels of each of n pixels, and 2048 times the second's weight."""
    at = ((np.arange(n) + 0.5) * (1 / (n / source)) - 0.5).astype(np.float32).clip(0, source - 1)
    first = at.astype(int)
    weights = np.rint((at - first).astype(np.float32) * 2048).astype(np.int32)
    return first, np.minimum(first + 1, source - 1), weights[:, None]
