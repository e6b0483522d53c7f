"""Renders scenes: textured objects on a background that thresholding cannot remove."""

import colorsys
import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tfds_refcoco.shapes.scene import Points, Scene, Thing

SUPERSAMPLING = 3  # objects are drawn at this scale and then averaged
_RIM = np.ones((5, 5), np.uint8)  # erosion by 2 supersampled pixels
JPEG_QUALITY = 90
Pixels = NDArray[Any]  # float32 [H, W, channels]; OpenCV's type hints do not keep the dtype

# HSV as (hue in degrees, saturation, value), and the maximum jitter of each.
HSV = {
    "red": ((358, 0.88, 0.85), (6, 0.10, 0.10)),
    "yellow": ((56, 0.88, 0.96), (4, 0.10, 0.04)),
    "green": ((125, 0.80, 0.62), (18, 0.15, 0.12)),
    "blue": ((218, 0.85, 0.80), (10, 0.12, 0.12)),
    "white": ((0, 0.02, 0.98), (180, 0.02, 0.02)),
    "black": ((0, 0.10, 0.08), (180, 0.10, 0.05)),
}


def render(rng: np.random.Generator, scene: Scene) -> NDArray[np.uint8]:
    """Renders a scene as an RGB image: uint8 (H, W, 3)."""
    image = _background(rng, scene.width, scene.height)
    for thing in scene.things:
        _draw(rng, image, thing)
    image *= _smooth(rng.uniform(0.9, 1.05, (3, 3, 1)), image)[:, :, None]  # uneven light
    image += 3.5 * rng.standard_normal((*image.shape[:2], 1), np.float32)
    return image.clip(0, 255).round().astype(np.uint8)


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Encodes an RGB image, uint8 (H, W, 3), as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return data.tobytes()


def coverage(polygon: Points, corner: tuple[int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draws a polygon in a window of the image, enlarged by SUPERSAMPLING.

    Args:
        polygon: (N, 2) in image pixels.
        corner: x, y of the window's top left pixel.
        size: width, height of the window in image pixels.

    Returns:
        uint8 (height * SUPERSAMPLING, width * SUPERSAMPLING) with values 0 and 255.
    """
    width, height = (side * SUPERSAMPLING for side in size)
    shift = 4  # fractional bits
    # OpenCV's origin is a pixel centre, COCO's a pixel corner.
    points = (polygon - corner) * SUPERSAMPLING - 0.5
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(points * 2**shift).astype(np.int32)], 255, shift=shift)
    return mask


def _draw(rng: np.random.Generator, image: Pixels, thing: Thing) -> None:
    """Blends an object into the float image, in place."""
    low = np.floor(thing.polygon.min(0)).astype(int)
    width, height = np.ceil(thing.polygon.max(0)).astype(int) - low
    x, y = low
    mask = coverage(thing.polygon, (x, y), (width, height))
    ink = np.zeros_like(mask)
    if thing.texture != "solid":
        # A rim in the main tone keeps the outline visible next to the second tone.
        core = cv2.erode(mask, _RIM, borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
        np.copyto(ink, core, where=_second_tone(rng, thing, mask.shape, (x, y)))
    layers = cv2.resize(
        np.stack([mask, ink], -1).astype(np.float32) / 255,
        (width, height),
        interpolation=cv2.INTER_AREA,
    )
    alpha, part = layers[:, :, :1], layers[:, :, 1:]
    main, second = _tones(rng, thing.colour)
    window = image[y : y + height, x : x + width]
    window *= 1 - alpha
    window += (alpha - part) * main + part * second


def _second_tone(
    rng: np.random.Generator, thing: Thing, shape: tuple[int, ...], corner: tuple[int, int]
) -> NDArray[np.bool]:
    """Returns where a supersampled window shows the texture's second tone: bool of `shape`."""
    rows, columns = ((np.arange(side, dtype=np.float32) + 0.5) / SUPERSAMPLING for side in shape)
    x = (columns + corner[0] - thing.x)[None, :]
    y = (rows + corner[1] - thing.y)[:, None]
    size = thing.area**0.5
    angle = thing.tilt + (rng.uniform(0, math.pi) if thing.texture == "striped" else 0)
    cos, sin = math.cos(angle), math.sin(angle)
    u, v = x * cos + y * sin, y * cos - x * sin
    if thing.texture == "striped":
        return _fraction(u / max(size / 3.2, 6.0) + rng.random()) < 0.5
    if thing.texture == "checkered":
        cell = max(size / 4.2, 4.0)
        u, v = (u / cell + rng.random()) / 2, (v / cell + rng.random()) / 2
        return (_fraction(u) < 0.5) ^ (_fraction(v) < 0.5)
    pitch = max(size / 3.2, 6.0)
    du, dv = _fraction(u / pitch + 0.5) - 0.5, _fraction(v / pitch + 0.5) - 0.5
    return du * du + dv * dv < 0.33**2


def _fraction(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values - np.floor(values)  # several times faster than % 1


def _tones(
    rng: np.random.Generator, colour: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns a colour and a shade of it for the texture: two RGB arrays (3,) in 0..255."""
    centre, spread = HSV[colour]
    hue, saturation, value = np.array(centre) + np.array(spread) * rng.uniform(-1, 1, 3)
    main = np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value)) * 255
    # The shade must not have another colour's name: white becomes gray, black dark gray.
    if colour == "white":
        return main, main * 0.62
    if colour == "black":
        return main, main * 0.4 + 95
    if colour == "yellow":  # a darker shade would be brown
        return main, main * 0.35 + 255 * 0.65
    return main, (main * 0.45 if rng.random() < 0.5 else main * 0.45 + 255 * 0.55)


def _smooth(grid: NDArray[np.float64], image: Pixels) -> Pixels:
    """Upsamples a coarse grid to the image's height and width."""
    height, width = image.shape[:2]
    return cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def _muted(rng: np.random.Generator) -> list[float]:
    """Returns a muted RGB colour in 0..255."""
    hue, saturation, value = rng.random(), rng.uniform(0.05, 0.4), rng.uniform(0.25, 0.8)
    return [255 * tone for tone in colorsys.hsv_to_rgb(hue, saturation, value)]


def _background(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Draws a gradient, low-frequency noise, patches, blobs and lines: float32 (H, W, 3)."""
    image: Pixels = np.zeros((height, width, 3), np.float32)
    rows, columns = np.mgrid[-0.5:0.5:6j, -0.5:0.5:6j]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (columns * np.cos(angle) + rows * np.sin(angle))[:, :, None] + 0.5
    grid = np.array(_muted(rng)) * ramp + np.array(_muted(rng)) * (1 - ramp)
    grid += rng.normal(0, 12, (6, 6, 3))
    image += _smooth(grid, image)
    for _ in range(2):  # two blended layers, so that patches are translucent
        layer = image.copy()
        for _ in range(int(rng.integers(3, 8))):
            _patch(rng, layer)
        if rng.random() < 0.5:
            layer = cv2.GaussianBlur(layer, (0, 0), 2.0)
        weight = rng.uniform(0.35, 0.7)
        image = cv2.addWeighted(image, 1 - weight, layer, weight, 0)
    for _ in range(int(rng.integers(4, 11))):
        ends = (rng.random((2, 2)) * (width, height)).astype(int).tolist()
        cv2.line(image, ends[0], ends[1], _muted(rng), int(rng.integers(1, 3)), cv2.LINE_AA)
    return image


def _patch(rng: np.random.Generator, image: Pixels) -> None:
    """Draws a random patch or blob into the image, in place."""
    height, width = image.shape[:2]
    corners = int(rng.integers(4, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.3, 1.0, corners) * rng.uniform(0.1, 0.4) * min(width, height)
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
    points += rng.random(2) * (width, height)
    cv2.fillPoly(image, [points.astype(np.int32)], _muted(rng), cv2.LINE_AA)
