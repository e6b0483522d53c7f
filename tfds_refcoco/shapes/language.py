"""Referring expressions as small programs: their types and their semantics.

`execute` is strict. If an expression is ambiguous to people (the runner-up is almost as far left,
almost as big, ...), it returns all possible objects; an expression is valid only if it returns one.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tfds_refcoco.shapes.scene import Scene, Thing

# Distances between box centres, as fractions of the image's width (x) or height (y).
LOCATION_MARGIN = 0.08
CORNER_MARGIN = 0.12  # difference in distance to the corner
MIDDLE_MARGIN = 0.10  # difference in distance to the image centre
MIDDLE_RADIUS = 0.22  # maximum distance of the middle object from the image centre
ORDER_MARGIN = 0.06
FAR_SIDE = 0.60  # the "left" object is in the left 60% of the image
FAR_CORNER = 0.40  # the "top left" object is in the top 40% and the left 40%
SIZE_RATIO = 1.25  # minimum ratio of diameters, and of square roots of areas
NEXT_RATIO = 1.4  # minimum ratio of the second smallest to the smallest distance
NEXT_REACH = 0.45  # "next to": maximum distance of centres, as a fraction of the shorter side

SIDES = ("left", "right", "top", "bottom")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
DIRECTIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True, slots=True)
class Noun:
    """A description by appearance; None leaves an attribute out, and all None means 'object'."""

    shape: str | None = None
    colour: str | None = None
    texture: str | None = None


@dataclass(frozen=True, slots=True)
class Attribute:
    """The object with this appearance."""

    noun: Noun


@dataclass(frozen=True, slots=True)
class Location:
    """The matching object that is farthest to a side or corner, or in the middle."""

    noun: Noun
    where: str  # one of SIDES, CORNERS, or "middle"


@dataclass(frozen=True, slots=True)
class Size:
    """The biggest or smallest matching object."""

    noun: Noun
    biggest: bool


@dataclass(frozen=True, slots=True)
class Order:
    """The second (rank 2) or third (rank 3) matching object, counted from a side."""

    noun: Noun
    rank: int
    side: str  # one of SIDES


@dataclass(frozen=True, slots=True)
class Relation:
    """The matching object with this relation to an anchor with a unique appearance."""

    noun: Noun
    relation: str  # one of DIRECTIONS, or "next to"
    anchor: Noun


Program = Attribute | Location | Size | Order | Relation
_RANKS = {2: "second", 3: "third"}


def kind_of(program: Program) -> str:
    """Returns the kind of an expression with its specific word, such as "relation: next to"."""
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
    """Returns the indices of the objects that match `noun`."""
    shape, colour, texture = noun.shape, noun.colour, noun.texture
    return [
        i
        for i, thing in enumerate(scene.things)
        if (shape is None or shape == thing.shape)
        and (colour is None or colour == thing.colour)
        and (texture is None or texture == thing.texture)
    ]


def execute(program: Program, scene: Scene) -> frozenset[int]:
    """Returns the indices of the objects that `program` may refer to: one if unambiguous."""
    candidates = matches(program.noun, scene)
    match program:
        case Attribute():
            return frozenset(candidates)
        case Location(where="middle"):
            return _middle(candidates, scene)
        case Location(where=where):
            return _sided(candidates, scene, where.split())
        case Size(biggest=biggest):
            return _sized(candidates, scene, biggest)
        case Order(rank=rank, side=side):
            return _ranked(candidates, scene, rank, side)
        case Relation(relation=relation, anchor=noun):
            anchors = matches(noun, scene)
            if len(anchors) != 1:
                return frozenset()
            candidates = [i for i in candidates if i != anchors[0]]
            anchor = scene.things[anchors[0]]
            if relation == "next to":
                return _next_to(candidates, scene, anchor)
            return _directed(candidates, scene, anchor, relation)


def _from_side(thing: Thing, scene: Scene, side: str) -> float:
    """Returns the distance of a centre from a side, as a fraction of the image's extent."""
    x, y = thing.x / scene.width, thing.y / scene.height
    return {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}[side]


def _smallest(
    candidates: Iterable[int], score: Callable[[int], float], margin: float
) -> frozenset[int]:
    """Returns the candidates with a score within `margin` of the smallest score."""
    scores = {i: score(i) for i in candidates}
    bound = min(scores.values(), default=0.0) + margin
    return frozenset(i for i, value in scores.items() if value < bound)


def _sided(candidates: list[int], scene: Scene, sides: list[str]) -> frozenset[int]:
    def offset(i: int) -> list[float]:
        return [_from_side(scene.things[i], scene, side) for side in sides]

    def distance(i: int) -> float:
        return float(sum(value**2 for value in offset(i)) ** 0.5)

    best = _smallest(candidates, distance, LOCATION_MARGIN if len(sides) == 1 else CORNER_MARGIN)
    bound = FAR_SIDE if len(sides) == 1 else FAR_CORNER
    if len(best) == 1 and max(offset(*best)) > bound:
        return frozenset()  # "the left star" is unnatural for a star near the right border
    return best


def _middle(candidates: list[int], scene: Scene) -> frozenset[int]:
    def spot(i: int) -> tuple[float, float]:
        return scene.things[i].x / scene.width, scene.things[i].y / scene.height

    def distance(i: int) -> float:
        x, y = spot(i)
        return float(((x - 0.5) ** 2 + (y - 0.5) ** 2) ** 0.5)

    best = _smallest(candidates, distance, MIDDLE_MARGIN)
    if len(best) != 1:
        return best
    (one,) = best
    between = [
        any(spot(i)[axis] < spot(one)[axis] - LOCATION_MARGIN for i in candidates)
        and any(spot(i)[axis] > spot(one)[axis] + LOCATION_MARGIN for i in candidates)
        for axis in (0, 1)
    ]
    # The object is central in the image and between others: both meanings of "middle" agree.
    return best if distance(one) <= MIDDLE_RADIUS and any(between) else frozenset()


def _sized(candidates: list[int], scene: Scene, biggest: bool) -> frozenset[int]:
    def larger(a: Thing, b: Thing) -> bool:
        ratio: float = min(a.diameter / b.diameter, (a.area / b.area) ** 0.5)
        return ratio >= SIZE_RATIO

    things = scene.things
    # Excludes candidates that are clearly smaller (or bigger) than another one.
    return frozenset(
        i
        for i in candidates
        if not any(
            larger(things[j], things[i]) if biggest else larger(things[i], things[j])
            for j in candidates
        )
    )


def _ranked(candidates: list[int], scene: Scene, rank: int, side: str) -> frozenset[int]:
    line = sorted((_from_side(scene.things[i], scene, side), i) for i in candidates)
    if len(line) <= rank:  # the last one is not counted from the far side
        return frozenset()
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(line[: rank + 1])]
    if min(gaps) < ORDER_MARGIN:
        return frozenset(candidates)
    return frozenset([line[rank - 1][1]])


def _directed(candidates: list[int], scene: Scene, anchor: Thing, relation: str) -> frozenset[int]:
    clear, possible = set(), set()
    for i in candidates:
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


def _next_to(candidates: list[int], scene: Scene, anchor: Thing) -> frozenset[int]:
    ranked = sorted(
        (((thing.x - anchor.x) ** 2 + (thing.y - anchor.y) ** 2) ** 0.5, i)
        for i, thing in ((i, scene.things[i]) for i in candidates)
    )
    near = [i for distance, i in ranked if distance < NEXT_RATIO * ranked[0][0]]
    if len(near) == 1 and ranked[0][0] > NEXT_REACH * min(scene.width, scene.height):
        return frozenset()
    return frozenset(near)
