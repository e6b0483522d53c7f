"""Semantics of sides, ordinals, sizes and places in the picture.

Every function takes the candidates (indices of the objects that the noun may mean) and returns all
possible referents; empty if the expression would be unnatural.
"""

import itertools
from collections.abc import Sequence

from tfds_refcoco.expressions.relations import overlap
from tfds_refcoco.expressions.scene import Scene, Thing

# Distances between box centres, as fractions of the picture's width (x) or height (y).
SIDE_MARGIN = 0.1
ORDER_MARGIN = 0.06
FAR_SIDE = 0.45  # "on the left": maximum distance of the box centre from the side
HALF = 0.5  # ... and no rival's centre is in that half, or rivals are farther away by:
MUCH_FARTHER = 0.3
FARTHEST = 0.55  # "leftmost": maximum distance from the side
MOST_IN_ROW = 7
SMALL_IN_ROW = 0.4  # minimum ratio of heights in a row: people overlook small objects when counting
SIZE_RATIO = 1.4  # minimum ratio of diameters, and of square roots of areas
CORNER = 0.36  # maximum distance of the box centre from both sides of the corner
CORNER_BOX = 0.7  # ... and of its far edges
CORNER_MARGIN = 0.15  # minimum additional distance of rivals from the corner
CENTRE = (0.38, 0.62)  # range of the box centre along x and y
CENTRE_RIVAL = (0.28, 0.72)  # ... and range without centres of rivals
CENTRE_BOX = 0.8  # maximum side length of the box
EDGE = 0.01  # boxes nearer to the border of the picture are truncated objects


def _span(thing: Thing, side: str) -> tuple[float, float, float]:
    """Returns the near edge, centre and far edge of a box, as distances from a side.

    The positions of a crowd's members are unknown, so its near edge is used as the centre.
    """
    axis = 0 if side in ("left", "right") else 1
    near, far = thing.box[axis], thing.box[axis + 2]
    if side in ("right", "bottom"):
        near, far = 1 - far, 1 - near
    return near, near if thing.crowd else (near + far) / 2, far


def sided(candidates: Sequence[int], scene: Scene, side: str, farthest: bool) -> frozenset[int]:
    """Returns the candidates that may be the object on a side, or the nearest to it."""
    spans = {i: _span(scene.things[i], side) for i in candidates}
    if not spans:
        return frozenset()
    best = min(spans, key=lambda i: spans[i][1])
    near, centre, far = spans[best]
    vertical = side in ("top", "bottom")

    def contends(i: int) -> bool:
        of_near, of_centre, of_far = spans[i]
        if of_near < near or of_far < far or of_centre < centre + SIDE_MARGIN:
            return True
        if of_near < centre:  # the objects overlap in depth
            return True
        if vertical and of_near < far - 0.02:  # next to each other rather than one above the other
            return True
        return (
            not farthest
            and of_centre < max(HALF, centre + SIDE_MARGIN)
            and (of_centre < centre + MUCH_FARTHER)
        )

    contenders = frozenset(i for i in spans if i == best or contends(i))
    if len(contenders) == 1 and centre > (FARTHEST if farthest else FAR_SIDE):
        return frozenset()
    return contenders


def _row(candidates: Sequence[int], scene: Scene, side: str) -> list[int] | None:
    """Returns the candidates in order from a side if they form a clear row, else None."""
    things = [scene.things[i] for i in candidates]
    if not 3 <= len(things) <= MOST_IN_ROW or any(thing.crowd for thing in things):
        return None
    across = 1 if side in ("left", "right") else 0
    heights = sorted(thing.box[across + 2] - thing.box[across] for thing in things)
    if heights[0] < SMALL_IN_ROW * heights[-1]:
        return None
    for k, thing in enumerate(things):
        for other in things[:k]:
            both = overlap(thing.box, other.box, across)
            if both < 0.4 * min(t.box[across + 2] - t.box[across] for t in (thing, other)):
                return None
    return sorted(candidates, key=lambda i: _span(scene.things[i], side)[1])


def ranked(candidates: Sequence[int], scene: Scene, rank: int, side: str) -> frozenset[int]:
    """Returns the candidate at position `rank` of a row; empty if there is no clear row."""
    line = _row(candidates, scene, side)
    # The last object of a row is not counted from the other end.
    if line is None or rank >= len(line) or not _in_order(line[: rank + 1], scene, side):
        return frozenset()
    # Later objects must be clearly after the counted ones.
    centres = [_span(scene.things[i], side)[1] for i in line]
    if any(after < centres[rank - 1] + ORDER_MARGIN for after in centres[rank:]):
        return frozenset()
    return frozenset([line[rank - 1]])


def _in_order(line: Sequence[int], scene: Scene, side: str) -> bool:
    spans = [_span(scene.things[i], side) for i in line]
    return all(
        after[1] - before[1] >= ORDER_MARGIN and after[0] > before[0] and after[2] > before[2]
        for before, after in itertools.pairwise(spans)
    )


def middle(candidates: Sequence[int], scene: Scene) -> frozenset[int]:
    """Returns the second of three in a row, if it is also in the middle of the picture."""
    for side in ("left", "top"):
        line = _row(candidates, scene, side)
        if line is None or len(line) != 3 or not _in_order(line, scene, side):
            continue
        off = [abs(_span(scene.things[i], side)[1] - 0.5) for i in line]
        if off[1] + SIDE_MARGIN / 2 < min(off[0], off[2]):  # both meanings of "middle" agree
            return frozenset([line[1]])
    return frozenset()


def sized(candidates: Sequence[int], scene: Scene, biggest: bool) -> frozenset[int]:
    """Returns the candidates that no other candidate clearly surpasses in (small) size."""
    things = scene.things
    if any(things[i].crowd for i in candidates):
        return frozenset()

    def ratio(a: Thing, b: Thing) -> float:
        def side(thing: Thing) -> float:
            return max(thing.width * scene.width, thing.height * scene.height)

        return min(side(a) / side(b), float((a.area / b.area) ** 0.5))

    def beats(i: int, j: int) -> bool:
        pair = (things[i], things[j]) if biggest else (things[j], things[i])
        return ratio(*pair) >= SIZE_RATIO

    # Excludes candidates that are clearly smaller (or bigger) than another one.
    best = frozenset(i for i in candidates if not any(beats(j, i) for j in candidates))
    cut_off = not biggest and any(_cut_off(things[i]) for i in best)
    return frozenset() if len(best) == 1 and cut_off else best


def _cut_off(thing: Thing) -> bool:
    x0, y0, x1, y1 = thing.box
    return min(x0, y0, 1 - x1, 1 - y1) < EDGE


def cornered(candidates: Sequence[int], scene: Scene, place: str) -> frozenset[int]:
    """Returns the candidates that may be the object in a corner of the picture."""
    sides = place.split()
    spans = {i: [_span(scene.things[i], side) for side in sides] for i in candidates}

    def distance(i: int) -> float:
        return float(sum(centre**2 for _, centre, _ in spans[i]) ** 0.5)

    bound = min((distance(i) for i in candidates), default=0.0) + CORNER_MARGIN
    best = frozenset(
        i
        for i in candidates
        if distance(i) < bound or all(centre < HALF for _, centre, _ in spans[i])
    )
    if len(best) == 1:
        (one,) = best
        if any(centre > CORNER or far > CORNER_BOX for _, centre, far in spans[one]):
            return frozenset()
    return best


def central(candidates: Sequence[int], scene: Scene) -> frozenset[int]:
    """Returns the candidates that may be the object in the centre of the picture."""

    def within(thing: Thing, bounds: tuple[float, float]) -> bool:
        return all(bounds[0] <= value <= bounds[1] for value in thing.centre)

    def contends(thing: Thing) -> bool:
        x0, y0, x1, y1 = thing.box
        covers = x0 < 0.5 < x1 and y0 < 0.5 < y1
        reaches = x0 < 0.62 and x1 > 0.38 and y0 < 0.62 and y1 > 0.38
        return within(thing, CENTRE_RIVAL) or covers or (thing.crowd and reaches)

    things = scene.things
    contenders = frozenset(i for i in candidates if contends(things[i])) | middle(candidates, scene)
    if len(contenders) == 1:
        (one,) = contenders
        thing = things[one]
        if not within(thing, CENTRE) or max(thing.width, thing.height) > CENTRE_BOX:
            return frozenset()
    return contenders
