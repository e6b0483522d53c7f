"""Which objects stand in a relation to another one, the anchor, as far as a person could say so."""

from collections.abc import Sequence

from tfds_refcoco.expressions.scene import ANCHOR, Scene, Thing

RELATIONS = ("with", "on", "next to", "left of", "right of", "above", "below")

# Distances are fractions of the picture's diagonal.
NEAR = 0.04  # "next to": no farther from the anchor
LEVEL = 0.4  # of the taller box: so far apart are their bottoms at most; else one is behind
NEARER = 0.13  # ... and rivals this much farther away
REACH = 0.2  # left of, right of, above, below: no farther from the anchor
ACROSS = 0.35  # of the smaller box: so much of it must lie beside the anchor
INTO = 0.15  # of the smaller box: so much of it may lie within the anchor's
TOUCHING = 0.03  # "with", "on": nearer rivals may be meant, too

# Categories of COCO, by what may be said of them. Only things in these are said to be "on" or
# "with" another: a box cannot tell who sits on a bench from who stands behind it.
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
# What is seen on walls, shelves and plates: above and below are said of these alone, as what is
# higher in a picture of the ground is mostly farther away.
INDOORS = TABLEWARE | {"clock", "tv", "microwave", "oven", "sink"}


def related(found: Sequence[int], scene: Scene, relation: str, anchor: int) -> frozenset[int]:
    """Indices of the things of `found` that may be meant, none where that is odd to say."""
    other = scene.things[anchor]
    if other.crowd or other.area < ANCHOR:
        return frozenset()
    match relation:
        case "next to":
            return _next_to(found, scene, other)
        case "on" | "with":
            return _in_contact(found, scene, relation, anchor)
        case _:
            return _directed(found, scene, other, relation)


def overlap(a: Sequence[float], b: Sequence[float], axis: int) -> float:
    """Length that two boxes share along an axis (0: x, 1: y); below 0 the gap between them."""
    return min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis])


def gap(a: Thing, b: Thing, scene: Scene) -> float:
    """Distance of two boxes, a fraction of the picture's diagonal."""
    x = max(0.0, -overlap(a.box, b.box, 0)) * scene.width
    y = max(0.0, -overlap(a.box, b.box, 1)) * scene.height
    return float((x * x + y * y) ** 0.5 / (scene.width**2 + scene.height**2) ** 0.5)


def _beside(a: Thing, b: Thing, axis: int) -> bool:
    """Whether one lies beside the other along an axis: they share rows (axis 0) or columns."""
    across = 1 - axis
    sizes = [t.box[across + 2] - t.box[across] for t in (a, b)]
    along = [t.box[axis + 2] - t.box[axis] for t in (a, b)]
    return overlap(a.box, b.box, across) >= ACROSS * min(sizes) and overlap(
        a.box, b.box, axis
    ) <= INTO * min(along)


def _next_to(found: Sequence[int], scene: Scene, anchor: Thing) -> frozenset[int]:
    gaps = {i: gap(scene.things[i], anchor, scene) for i in found}
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


def _directed(found: Sequence[int], scene: Scene, anchor: Thing, relation: str) -> frozenset[int]:
    axis = 0 if relation in ("left of", "right of") else 1
    sign = 1 if relation in ("right of", "below") else -1

    def along(thing: Thing) -> float:
        near = thing.box[axis] if sign > 0 else thing.box[axis + 2]
        place = near if thing.crowd else thing.centre[axis]
        if thing.crowd:  # the member that is farthest in the direction
            place = thing.box[axis + 2] if sign > 0 else thing.box[axis]
        return sign * (place - anchor.centre[axis])

    contenders = frozenset(i for i in found if along(scene.things[i]) > -0.02)
    if len(contenders) == 1:
        (one,) = contenders
        thing = scene.things[one]
        if not _beside(thing, anchor, axis) or gap(thing, anchor, scene) > REACH:
            return frozenset()
        if axis == 1 and not {thing.category, anchor.category} <= INDOORS:
            return frozenset()
    return contenders


def _in_contact(found: Sequence[int], scene: Scene, relation: str, anchor: int) -> frozenset[int]:
    other = scene.things[anchor]
    contenders = frozenset(
        i
        for i in found
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
