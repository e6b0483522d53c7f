"""Colour overlays of maps on images, used for every heatmap in this project.

The image is gray and the map is transparent at zero, so that all colour comes from the map. The
colormaps are perceptually uniform and colourblind-safe: inferno for non-negative values, and
berlin (blue to red) for signed values.
"""

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

GRAY = 0.8  # brightness of the image
_OPAQUE = 0.85  # maximum opacity, reached at half of the range


class Range(NamedTuple):
    """The quantity and the value range of a map.

    Attributes:
      label: the quantity, such as "probability".
      low: the value drawn transparent, or minus `high` if `signed`.
      high: the value drawn most opaque; larger values are clipped.
      signed: whether zero, in the middle of the range, is transparent.
    """

    label: str
    low: float
    high: float
    signed: bool = False


PROBABILITY = Range("probability", 0.0, 1.0)


@cache
def table(signed: bool = False) -> np.ndarray:
    """Returns RGBA colours of 256 levels from `low` to `high`, uint8 `[256, 4]`."""
    level = np.linspace(-1, 1, 256) if signed else np.linspace(0, 1, 256)
    if signed:
        import matplotlib as mpl  # deferred: takes a second, and few maps are signed

        rgb = np.round(255 * mpl.colormaps["berlin"](np.linspace(0, 1, 256))[:, :3])
    else:
        rgb = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    opacity = np.round(255 * _OPAQUE * np.minimum(1, 2 * np.abs(level)))
    return np.column_stack([rgb, opacity]).astype(np.uint8)


def overlay(image: np.ndarray, values: np.ndarray, of: Range = PROBABILITY) -> np.ndarray:
    """Draws a map over an image.

    Args:
      image: uint8 `[h, w, 3]`.
      values: float `[h, w]`.
      of: quantity and range of the values.

    Returns:
      Uint8 `[h, w, 3]`.
    """
    level = (values - of.low) * (255 / max(of.high - of.low, 1e-12))
    colours = table(of.signed)[np.clip(np.round(level), 0, 255).astype(np.uint8)]
    opacity = colours[..., 3:].astype(np.uint16)
    dim = (GRAY * cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).astype(np.uint16)[..., None]
    mixed: np.ndarray = (dim * (255 - opacity) + colours[..., :3] * opacity) // 255
    return mixed.astype(np.uint8)


def bar(of: Range, width: int, height: int) -> np.ndarray:
    """Draws a colour bar from `low` to `high` on gray, uint8 `[height, width, 3]`."""
    values = np.linspace(of.low, of.high, width)[None].repeat(height, axis=0)
    return overlay(np.full((height, width, 3), 150, np.uint8), values, of)
