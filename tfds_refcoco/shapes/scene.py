"""Sampling of scenes: appearance and positions of textured shapes.

Coordinates are pixels with x to the right and y down; pixel i covers [i, i + 1), as in COCO.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COLOURS = ("red", "green", "blue", "yellow", "white", "black")
TEXTURES = ("solid", "striped", "dotted", "checkered")

# (width, height) in pixels; 4:3 landscape is listed twice because it is COCO's most common format.
IMAGE_SIZES = (
    (160, 120),
    (160, 120),
    (120, 160),
    (144, 144),
    (168, 112),
    (112, 168),
    (176, 128),
    (160, 144),
    (128, 168),
)

OBJECTS = {"train": (3, 7), "val": (3, 7), "testA": (3, 4), "testB": (6, 7)}  # inclusive
COUNT_DECAY = 0.75  # factor in the probability of a scene per additional object
SOLID = 0.5  # probability of a plain texture; the others have equal probability
DIAMETER = (0.25, 0.46)  # fraction of the shorter image side; reduced in crowded scenes
REPEAT = 0.2  # probability that an object copies the shape and colour of an earlier one
MAX_TILT = 12.0  # degrees; a larger tilt would make a square look like a diamond
GAP = 3.0  # minimum distance between the boxes of two objects in pixels
EDGE = 2.0  # minimum distance between an object and the image border in pixels

Points = NDArray[np.float64]  # [N, 2]: x, y


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: its appearance, and its geometry in pixels."""

    shape: str
    colour: str
    texture: str
    polygon: Points
    tilt: float  # radians
    x: float  # centre of the bounding box
    y: float
    width: float  # of the bounding box
    height: float
    area: float  # square pixels, of the polygon

    @property
    def diameter(self) -> float:
        """The longer side of the bounding box."""
        return max(self.width, self.height)


@dataclass(frozen=True, slots=True)
class Scene:
    """The objects of an image, in arbitrary order."""

    width: int
    height: int
    things: tuple[Thing, ...]


def polygon_area(polygon: Points) -> float:
    """Returns the area of a simple polygon of shape (N, 2)."""
    x, y = polygon.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _ring(count: int, start: float, *radii: float) -> Points:
    """Returns `count` points around the origin, cycling through `radii`."""
    angles = math.radians(start) + np.arange(count) * (2 * math.pi / count)
    ring: Points = np.resize(radii, count)[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return ring


def _cross() -> Points:
    """Returns a plus sign: the corners of the upper right arm and their three rotations."""
    quarter = np.array([(0.38, 1.0), (0.38, 0.38), (1.0, 0.38)])
    turn = np.array([(0.0, -1.0), (1.0, 0.0)])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _heart() -> Points:
    t = np.linspace(0, 2 * math.pi, 32, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], 1)


@functools.cache
def outline(shape: str) -> Points:
    """Returns the (N, 2) polygon of a shape at size 1, with its box centred on the origin.

    Size is the geometric mean of the extent and the diameter of a disc with the same area. With
    only one of these, a star would look far larger or smaller than a square of the same size.
    """
    points = {
        "circle": lambda: _ring(32, 0, 1.0),
        "square": lambda: _ring(4, 45, 1.0),
        "triangle": lambda: _ring(3, -90, 1.0),
        "star": lambda: _ring(10, -90, 1.0, 0.45),
        "cross": _cross,
        "heart": _heart,
    }[shape]()
    low, high = points.min(0), points.max(0)
    size = math.sqrt(math.sqrt(4 * polygon_area(points) / math.pi) * (high - low).max())
    centred: Points = (points - (low + high) / 2) / size
    return centred


def sample_scene(rng: np.random.Generator, split: str) -> Scene:
    """Samples a scene of `split` from a few shapes and colours, so that they repeat."""
    low, high = OBJECTS[split]
    counts = np.arange(low, high + 1)
    weights = COUNT_DECAY ** (counts - low)
    count = int(rng.choice(counts, p=weights / weights.sum()))
    width, height = IMAGE_SIZES[rng.integers(len(IMAGE_SIZES))]
    looks = _sample_looks(rng, count)
    sizes = np.exp(rng.uniform(math.log(DIAMETER[0]), math.log(DIAMETER[1]), count))
    sizes *= min(width, height)
    tilts = np.radians(rng.uniform(-MAX_TILT, MAX_TILT, count))
    while True:
        polygons = [
            _turned(outline(look[0]), tilt) * size
            for look, tilt, size in zip(looks, tilts, sizes, strict=True)
        ]
        extents = np.array([np.ptp(polygon, 0) for polygon in polygons])
        centres = _place(rng, extents, width, height)
        if centres is not None:
            break
        sizes *= 0.95  # too crowded
    things = tuple(
        _thing(look, tilt, polygon + centre)
        for look, tilt, polygon, centre in zip(looks, tilts, polygons, centres, strict=True)
    )
    return Scene(width, height, things)


def _sample_looks(rng: np.random.Generator, count: int) -> list[tuple[str, str, str]]:
    """Samples (shape, colour, texture) of each object."""
    shapes = rng.permutation(len(SHAPES))[: int(rng.integers(2, 5))]
    colours = rng.permutation(len(COLOURS))[: int(rng.integers(2, 5))]
    textures = [TEXTURES[i] for i in 1 + rng.permutation(len(TEXTURES) - 1)[:2]]
    looks: list[tuple[str, str, str]] = []
    for number in range(count):
        texture = "solid" if rng.random() < SOLID else textures[rng.integers(len(textures))]
        if number and rng.random() < REPEAT:
            shape, colour, _ = looks[rng.integers(number)]
        else:
            shape = SHAPES[shapes[rng.integers(len(shapes))]]
            colour = COLOURS[colours[rng.integers(len(colours))]]
        looks.append((shape, colour, texture))
    return looks


def _turned(points: Points, angle: float) -> Points:
    """Rotates `points` about the origin and centres their bounding box on it."""
    cos, sin = math.cos(angle), math.sin(angle)
    points = points @ np.array([[cos, sin], [-sin, cos]])
    centred: Points = points - (points.min(0) + points.max(0)) / 2
    return centred


def _place(rng: np.random.Generator, extents: Points, width: int, height: int) -> Points | None:
    """Samples box centres (N, 2) without overlaps for `extents` (N, 2); None on failure."""
    centres = np.zeros_like(extents)
    done: list[int] = []
    for index in np.argsort(-extents.max(1), kind="stable"):  # largest first
        low = extents[index] / 2 + EDGE
        tries = rng.uniform(low, (width, height) - low, (48, 2))
        offsets = np.abs(tries[:, None] - centres[done])
        disjoint = offsets > (extents[done] + extents[index]) / 2 + GAP
        free = disjoint.any(-1).all(-1)
        if not free.any():
            return None
        centres[index] = tries[free.argmax()]
        done.append(int(index))
    return centres


def _thing(look: tuple[str, str, str], tilt: float, polygon: Points) -> Thing:
    polygon = polygon.round(2)  # so that the image matches the annotation exactly
    low, high = polygon.min(0), polygon.max(0)
    x, y = ((low + high) / 2).tolist()
    width, height = (high - low).tolist()
    return Thing(*look, polygon, float(tilt), x, y, width, height, polygon_area(polygon))
