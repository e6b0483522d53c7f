"""Color names of pixels: clear matches, and possible ones."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Ranges = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

GRAY = 4  # maximum mean channel difference of a gray picture, from JPEG's rounding
# Ranges of hue (degrees, modulo 360), saturation and value (0 to 1). Clear ranges keep a distance
# from borders between two names; possible ranges overlap.
CLEAR: Mapping[str, Ranges] = {
    "red": ((-14, 11), (0.6, 1), (0.35, 1)),
    "orange": ((19, 38), (0.75, 1), (0.7, 1)),
    "yellow": ((46, 66), (0.55, 1), (0.6, 1)),
    "green": ((85, 160), (0.35, 1), (0.25, 0.95)),
    "blue": ((200, 250), (0.45, 1), (0.3, 1)),
    "purple": ((265, 298), (0.35, 1), (0.25, 0.9)),
    "pink": ((-48, -14), (0.3, 0.75), (0.65, 1)),
    "brown": ((14, 36), (0.45, 0.9), (0.2, 0.5)),
    "white": ((0, 360), (0, 0.12), (0.82, 1)),
    "black": ((0, 360), (0, 1), (0, 0.18)),
}
POSSIBLE: Mapping[str, Ranges] = {
    "red": ((-32, 20), (0.3, 1), (0.2, 1)),
    "orange": ((6, 48), (0.4, 1), (0.4, 1)),
    "yellow": ((36, 80), (0.28, 1), (0.4, 1)),
    "green": ((62, 185), (0.14, 1), (0.12, 1)),
    "blue": ((175, 270), (0.15, 1), (0.15, 1)),
    "purple": ((245, 330), (0.14, 1), (0.15, 1)),
    "pink": ((-75, 20), (0.12, 0.9), (0.45, 1)),
    "brown": ((-10, 55), (0.18, 1), (0.12, 0.75)),
    "white": ((0, 360), (0, 0.28), (0.6, 1)),
    "black": ((0, 360), (0, 1), (0, 0.34)),
}


def maps(pixels: NDArray[np.uint8], ranges: Mapping[str, Ranges]) -> NDArray[np.bool]:
    """Returns which pixels of RGB [h, w, 3] match each colour: bool [colours, h, w]."""
    red, green, blue = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).astype(np.float32) / 255
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    saturation = chroma / np.maximum(value, 1e-6)
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(
        value == red,
        (green - blue) / safe % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue *= 60
    matches = []
    for (low, high), *others in ranges.values():
        inside = (hue >= low) & (hue <= high)
        if low < 0:
            inside |= hue >= low + 360
        for channel, (least, most) in zip((saturation, value), others, strict=True):
            inside &= (channel >= least) & (channel <= most)
        matches.append(inside)
    return np.stack(matches)


def shares(of_colour: NDArray[np.bool], mask: NDArray[np.bool]) -> dict[str, float]:
    """Returns the fraction of the pixels of a mask with each colour; 0 for an empty mask.

    Args:
      of_colour: bool [colours, h, w] from `maps`.
      mask: bool [h, w].
    """
    inside = np.count_nonzero(of_colour[:, mask], axis=1) / max(1, np.count_nonzero(mask))
    return dict(zip(CLEAR, inside.tolist(), strict=True))


def is_gray(pixels: NDArray[np.uint8]) -> bool:
    """Whether RGB [h, w, 3] is a gray picture without tint, and so without colours."""
    red, green, blue = (pixels[..., i].astype(np.int16) for i in range(3))
    return bool((np.abs(red - green) + np.abs(green - blue)).mean() < GRAY)
