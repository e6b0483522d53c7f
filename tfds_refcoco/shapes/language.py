"""Referring expressions as small programs: their types, their meaning and their English.

`execute` is strict. Where a person could hesitate (the runner-up is almost as far left, almost as
big, ...) it returns every contender, so that an expression is good only if one object is left.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tfds_refcoco.shapes.scene import Scene, Thing

# Fractions of the image's width (along x) or height (along y), between box centres.
LOCATION_MARGIN = 0.08
CORNER_MARGIN = 0.12  # of the distance to the corner
MIDDLE_MARGIN = 0.10  # of the distance to the image centre
MIDDLE_RADIUS = 0.22  # the middle object is at most this far from the image centre
ORDER_MARGIN = 0.06
FAR_SIDE = 0.60  # the "left" object lies in the left 60% of the image
FAR_CORNER = 0.40  # the "top left" object lies in the top 40% and the left 40%
SIZE_RATIO = 1.25  # of diameters, and of square roots of areas
NEXT_RATIO = 1.4  # the second nearest object is this much farther away
NEXT_REACH = 0.45  # "next to": centres within this fraction of the shorter side

SIDES = ("left", "right", "top", "bottom")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
DIRECTIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True, slots=True)
class Noun:
    """A description by looks; None says nothing, all None is 'object'."""

    shape: str | None = None
    colour: str | None = None
    texture: str | None = None


@dataclass(frozen=True, slots=True)
class Attribute:
    """The object of these looks."""

    noun: Noun


@dataclass(frozen=True, slots=True)
class Location:
    """The one of these farthest to a side or corner, or in the middle."""

    noun: Noun
    where: str  # of SIDES, of CORNERS, or "middle"


@dataclass(frozen=True, slots=True)
class Size:
    """The biggest or smallest of these."""

    noun: Noun
    biggest: bool


@dataclass(frozen=True, slots=True)
class Order:
    """The second (rank 2) or third (rank 3) of these, counted from a side."""

    noun: Noun
    rank: int
    side: str  # of SIDES


@dataclass(frozen=True, slots=True)
class Relation:
    """The one of these that stands so to the anchor, which its looks alone single out."""

    noun: Noun
    relation: str  # of DIRECTIONS, or "next to"
    anchor: Noun


Program = Attribute | Location | Size | Order | Relation
_RANKS = {2: "second", 3: "third"}


def kind_of(program: Program) -> str:
    """Names the kind of an expression and, after a colon, its word: "relation: next to"."""
    match program:
        case Attribute():
            return "attribute"
        case Location(where=where):
            return f"corner: {where}" if where in CORNERS else f"side: {where}"
        case Size(biggest=biggest):
            return f"size: {'biggest' if biggest else 'smallest'}"
        case Order(rank=rank):
            return f"ordinal: {_RANKS[rank]}"
        case Relation(relation=relation):
            return f"relation: {relation}"


def matches(noun: Noun, scene: Scene) -> list[int]:
    """Indices of the things that look like `noun`."""
    shape, colour, texture = noun.shape, noun.colour, noun.texture
    return [
        i
        for i, thing in enumerate(scene.things)
        if (shape is None or shape == thing.shape)
        and (colour is None or colour == thing.colour)
        and (texture is None or texture == thing.texture)
    ]


def execute(program: Program, scene: Scene) -> frozenset[int]:
    """Indices of the things `program` may mean: one where a person would have no doubt."""
    found = matches(program.noun, scene)
    match program:
        case Attribute():
            return frozenset(found)
        case Location(where="middle"):
            return _middle(found, scene)
        case Location(where=where):
            return _sided(found, scene, where.split())
        case Size(biggest=biggest):
            return _sized(found, scene, biggest)
        case Order(rank=rank, side=side):
            return _ranked(found, scene, rank, side)
        case Relation(relation=relation, anchor=noun):
            anchors = matches(noun, scene)
            if len(anchors) != 1:
                return frozenset()
            found = [i for i in found if i != anchors[0]]
            anchor = scene.things[anchors[0]]
            if relation == "next to":
                return _next_to(found, scene, anchor)
            return _directed(found, scene, anchor, relation)


def _from_side(thing: Thing, scene: Scene, side: str) -> float:
    """Distance of the thing's centre from a side, as a fraction of the image's extent."""
    x, y = thing.x / scene.width, thing.y / scene.height
    return {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}[side]


def _smallest(found: Iterable[int], score: Callable[[int], float], margin: float) -> frozenset[int]:
    """Those whose score is within `margin` of the smallest one."""
    scores = {i: score(i) for i in found}
    bound = min(scores.values(), default=0.0) + margin
    return frozenset(i for i, value in scores.items() if value < bound)


def _sided(found: list[int], scene: Scene, sides: list[str]) -> frozenset[int]:
    def offset(i: int) -> list[float]:
        return [_from_side(scene.things[i], scene, side) for side in sides]

    def distance(i: int) -> float:
        return float(sum(value**2 for value in offset(i)) ** 0.5)

    best = _smallest(found, distance, LOCATION_MARGIN if len(sides) == 1 else CORNER_MARGIN)
    bound = FAR_SIDE if len(sides) == 1 else FAR_CORNER
    if len(best) == 1 and max(offset(*best)) > bound:
        return frozenset()  # "the left star" is odd for one near the right border
    return best


def _middle(found: list[int], scene: Scene) -> frozenset[int]:
    def spot(i: int) -> tuple[float, float]:
        return scene.things[i].x / scene.width, scene.things[i].y / scene.height

    def distance(i: int) -> float:
        x, y = spot(i)
        return float(((x - 0.5) ** 2 + (y - 0.5) ** 2) ** 0.5)

    best = _smallest(found, distance, MIDDLE_MARGIN)
    if len(best) != 1:
        return best
    (one,) = best
    between = [
        any(spot(i)[axis] < spot(one)[axis] - LOCATION_MARGIN for i in found)
        and any(spot(i)[axis] > spot(one)[axis] + LOCATION_MARGIN for i in found)
        for axis in (0, 1)
    ]
    # Central in the image and between others: both readings of "middle" then agree.
    return best if distance(one) <= MIDDLE_RADIUS and any(between) else frozenset()


def _sized(found: list[int], scene: Scene, biggest: bool) -> frozenset[int]:
    def larger(a: Thing, b: Thing) -> bool:
        ratio: float = min(a.diameter / b.diameter, (a.area / b.area) ** 0.5)
        return ratio >= SIZE_RATIO

    things = scene.things
    # Out are those that another one of them clearly beats.
    return frozenset(
        i
        for i in found
        if not any(
            larger(things[j], things[i]) if biggest else larger(things[i], things[j]) for j in found
        )
    )


def _ranked(found: list[int], scene: Scene, rank: int, side: str) -> frozenset[int]:
    line = sorted((_from_side(scene.things[i], scene, side), i) for i in found)
    if len(line) <= rank:  # the last in line is not counted from the far end
        return frozenset()
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(line[: rank + 1])]
    if min(gaps) < ORDER_MARGIN:
        return frozenset(found)
    return frozenset([line[rank - 1][1]])


def _directed(found: list[int], scene: Scene, anchor: Thing, relation: str) -> frozenset[int]:
    clear, possible = set(), set()
    for i in found:
        thing = scene.things[i]
        across, along = thing.x - anchor.x, thing.y - anchor.y
        half = max(thing.height, anchor.height) / 2
        if relation in ("left of", "right of"):
            across, along = along, across
            half = max(thing.width, anchor.width) / 2
        if relation in ("left of", "above"):
            along = -along
        if along > half and along > 1.2 * abs(across):
            clear.add(i)
        if along > 0 and along > 0.4 * abs(across):
            possible.add(i)
    if len(possible) == 1 and not clear:
        return frozenset()
    return frozenset(possible)


def _next_to(found: list[int], scene: Scene, anchor: Thing) -> frozenset[int]:
    ranked = sorted(
        (((thing.x - anchor.x) ** 2 + (thing.y - anchor.y) ** 2) ** 0.5, i)
        for i, thing in ((i, scene.things[i]) for i in found)
    )
    near = [i for distance, i in ranked if distance < NEXT_RATIO * ranked[0][0]]
    if len(near) == 1 and ranked[0][0] > NEXT_REACH * min(scene.width, scene.height):
        return frozenset()
    return frozenset(near)
