"""From an image to the network's square input and back, in NumPy; centres lie at half pixels."""

from typing import Any

import numpy as np


def fit(image: np.ndarray, spec: dict[str, Any]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Fits uint8 [h, w, 3] into the square; also returns top, left, height and width in it."""
    (h, w), size = image.shape[:2], spec["image_size"]
    if spec["resize"] == "squash":
        top, left, fitted_h, fitted_w = 0, 0, size, size
    else:
        scale = size / max(h, w)
        fitted_h, fitted_w = max(1, round(h * scale)), max(1, round(w * scale))
        top, left = (size - fitted_h) // 2, (size - fitted_w) // 2
    square = np.full((size, size, 3), spec["border"], np.uint8)
    square[top : top + fitted_h, left : left + fitted_w] = _resize(image, fitted_h, fitted_w)
    return square, (top, left, fitted_h, fitted_w)


def unfit(mask: np.ndarray, shape: Any, box: tuple[int, ...], spec: dict[str, Any]) -> np.ndarray:
    """Interpolates probabilities [G, G] bilinearly at the pixels of the original image, [h, w]."""
    stride = spec["image_size"] / len(mask)
    rows, columns = (
        _weights(shape[axis], len(mask), stride, box[axis], box[axis + 2]) for axis in (0, 1)
    )
    return rows @ mask @ columns.T


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear in OpenCV's fixed-point numbers, to the bit."""
    y, beyond_y, wy = _taps(height, image.shape[0])
    x, beyond_x, wx = _taps(width, image.shape[1])
    image = image.astype(np.int64)
    rows = image[:, x] * wx[0][:, None] + image[:, beyond_x] * wx[1][:, None]
    wy = wy[:, :, None, None]
    upper, lower = (wy[0] * (rows[y] >> 4)) >> 16, (wy[1] * (rows[beyond_y] >> 4)) >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _taps(n: int, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source pixels of each of n pixels, and their weights times 2048."""
    at = ((np.arange(n) + 0.5) * (1 / (n / source)) - 0.5).astype(np.float32)
    first = np.floor(at).astype(int)
    part = np.where((first < 0) | (first >= source - 1), 0, at - first).astype(np.float32)
    first = np.clip(first, 0, source - 1)
    weights = np.rint(np.stack([1 - part, part]) * 2048).astype(np.int64)
    return first, np.minimum(first + 1, source - 1), weights


def _weights(n: int, cells: int, stride: float, offset: int, fitted: int) -> np.ndarray:
    """Interpolation weights [n, cells] of one axis."""
    at = np.clip(((np.arange(n) + 0.5) * (fitted / n) + offset) / stride - 0.5, 0, cells - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells))).astype(np.float32)
