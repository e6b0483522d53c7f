"""Semantics of relations between an object and another one, the anchor."""

from collections.abc import Sequence

from tfds_refcoco.expressions.scene import ANCHOR, Scene, Thing

RELATIONS = ("with", "on", "next to", "left of", "right of", "above", "below")

# Distances are fractions of the picture's diagonal.
NEAR = 0.04  # "next to": maximum distance from the anchor
LEVEL = 0.4  # ... and maximum distance of the bottom edges, as a fraction of the taller box
NEARER = 0.13  # ... and minimum additional distance of rivals
REACH = 0.2  # left of, right of, above, below: maximum distance from the anchor
ACROSS = 0.35  # minimum extent shared with the anchor, as a fraction of the smaller box
INTO = 0.15  # maximum overlap with the anchor's box, as a fraction of the smaller box
TOUCHING = 0.03  # "with", "on": nearer rivals are also possible referents

# COCO's categories for "on" and "with". Other categories are excluded, because boxes do not show
# whether a person sits on a bench or stands in the background.
CARRIED = frozenset(
    {
        *("backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard"),
        *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
        *("cell phone", "teddy bear", "hot dog"),
    }
)
SUPPORTS = frozenset({"dining table", "bed", "couch"})
TABLEWARE = frozenset(
    {
        *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
        *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake"),
        *("potted plant", "vase", "laptop", "mouse", "remote", "keyboard", "cell phone", "book"),
        *("scissors", "teddy bear", "toaster"),
    }
)
ON_FURNITURE = TABLEWARE | {"cat", "dog", "suitcase", "backpack", "handbag"}
# Objects on walls, shelves and plates. Only these are "above" or "below" others, because on the
# ground objects that are higher in the picture are usually farther away.
INDOORS = TABLEWARE | {"clock", "tv", "microwave", "oven", "sink"}


def related(candidates: Sequence[int], scene: Scene, relation: str, anchor: int) -> frozenset[int]:
    """Returns the candidates that may be meant; empty if the relation is unnatural."""
    other = scene.things[anchor]
    if other.crowd or other.area < ANCHOR:
        return frozenset()
    match relation:
        case "next to":
            return _next_to(candidates, scene, other)
        case "on" | "with":
            return _in_contact(candidates, scene, relation, anchor)
        case _:
            return _directed(candidates, scene, other, relation)


def overlap(a: Sequence[float], b: Sequence[float], axis: int) -> float:
    """Returns the overlap of two boxes along an axis (0: x, 1: y); negative for a gap."""
    return min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis])


def gap(a: Thing, b: Thing, scene: Scene) -> float:
    """Returns the distance of two boxes as a fraction of the picture's diagonal."""
    x = max(0.0, -overlap(a.box, b.box, 0)) * scene.width
    y = max(0.0, -overlap(a.box, b.box, 1)) * scene.height
    return float((x * x + y * y) ** 0.5 / (scene.width**2 + scene.height**2) ** 0.5)


def _beside(a: Thing, b: Thing, axis: int) -> bool:
    """Whether two objects are adjacent along an axis: they share rows (axis 0) or columns."""
    across = 1 - axis
    sizes = [t.box[across + 2] - t.box[across] for t in (a, b)]
    along = [t.box[axis + 2] - t.box[axis] for t in (a, b)]
    return overlap(a.box, b.box, across) >= ACROSS * min(sizes) and overlap(
        a.box, b.box, axis
    ) <= INTO * min(along)


def _next_to(candidates: Sequence[int], scene: Scene, anchor: Thing) -> frozenset[int]:
    gaps = {i: gap(scene.things[i], anchor, scene) for i in candidates}
    if not gaps:
        return frozenset()
    best = min(gaps, key=lambda i: gaps[i])
    contenders = frozenset(i for i in gaps if i == best or gaps[i] < gaps[best] + NEARER)
    if len(contenders) == 1:
        thing = scene.things[best]
        level = abs(thing.box[3] - anchor.box[3]) <= LEVEL * max(thing.height, anchor.height)
        if gaps[best] > NEAR or not level or not _beside(thing, anchor, 0):
            return frozenset()
    return contenders


def _directed(
    candidates: Sequence[int], scene: Scene, anchor: Thing, relation: str
) -> frozenset[int]:
    axis = 0 if relation in ("left of", "right of") else 1
    sign = 1 if relation in ("right of", "below") else -1

    def along(thing: Thing) -> float:
        near = thing.box[axis] if sign > 0 else thing.box[axis + 2]
        place = near if thing.crowd else thing.centre[axis]
        if thing.crowd:  # the member that is farthest in this direction
            place = thing.box[axis + 2] if sign > 0 else thing.box[axis]
        return sign * (place - anchor.centre[axis])

    contenders = frozenset(i for i in candidates if along(scene.things[i]) > -0.02)
    if len(contenders) == 1:
        (one,) = contenders
        thing = scene.things[one]
        if not _beside(thing, anchor, axis) or gap(thing, anchor, scene) > REACH:
            return frozenset()
        if axis == 1 and not {thing.category, anchor.category} <= INDOORS:
            return frozenset()
    return contenders


def _in_contact(
    candidates: Sequence[int], scene: Scene, relation: str, anchor: int
) -> frozenset[int]:
    other = scene.things[anchor]
    contenders = frozenset(
        i
        for i in candidates
        if scene.touching(i, anchor) or gap(scene.things[i], other, scene) < TOUCHING
    )
    if len(contenders) != 1:
        return contenders
    (one,) = contenders
    thing = scene.things[one]
    if not scene.touching(one, anchor):
        return frozenset()
    if relation == "with":
        fits = thing.category == "person" and other.category in CARRIED
        return contenders if fits and other.area < thing.area else frozenset()
    x, _ = thing.centre
    bottom = thing.box[3]
    within = other.box[0] < x < other.box[2] and (
        other.box[1] < bottom < other.box[3] - 0.1 * other.height
    )
    fits = thing.category in ON_FURNITURE and other.category in SUPPORTS
    return contenders if fits and within and other.area > thing.area else frozenset()
