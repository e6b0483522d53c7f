"""Maps as colours over a picture: what every heatmap in this project is drawn with.

The picture is gray and the map transparent at zero, so that all colour is the map's. The colours
are perceptually uniform, and distinct to people who see red and green alike: inferno for what is
not negative, and berlin, blue to red, for what has a sign.
"""

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

GRAY = 0.8  # brightness of the picture
_OPAQUE = 0.85  # most of a colour that covers the picture, from half of the range on


class Range(NamedTuple):
    """What the colours stand for.

    Attributes:
      label: what is drawn, such as "probability".
      low: the value without colour, or minus `high` if `signed`.
      high: the value with most colour; more is drawn as it.
      signed: zero, in the middle, is without colour.
    """

    label: str
    low: float
    high: float
    signed: bool = False


PROBABILITY = Range("probability", 0.0, 1.0)


@cache
def table(signed: bool = False) -> np.ndarray:
    """Returns RGB and opacity of 256 levels from `low` to `high`, uint8 `[256, 4]`."""
    level = np.linspace(-1, 1, 256) if signed else np.linspace(0, 1, 256)
    if signed:
        import matplotlib as mpl  # late: it takes a second, and few maps have a sign

        rgb = np.round(255 * mpl.colormaps["berlin"](np.linspace(0, 1, 256))[:, :3])
    else:
        rgb = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    opacity = np.round(255 * _OPAQUE * np.minimum(1, 2 * np.abs(level)))
    return np.column_stack([rgb, opacity]).astype(np.uint8)


def overlay(image: np.ndarray, values: np.ndarray, of: Range = PROBABILITY) -> np.ndarray:
    """Draws a map over a picture.

    Args:
      image: uint8 `[h, w, 3]`.
      values: float `[h, w]`.
      of: what the values are, and their range.

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
    """Draws the colours from `low` to `high` over a gray picture, uint8 `[height, width, 3]`."""
    values = np.linspace(of.low, of.high, width)[None].repeat(height, axis=0)
    return overlay(np.full((height, width, 3), 150, np.uint8), values, of)
