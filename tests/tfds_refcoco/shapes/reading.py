"""An independent parser for the English of `shapes`: the meaning of a sentence in a scene.

It does not use the programs from which the sentences are generated.
"""

import math
import re

import numpy as np

SHAPES = {
    **{w: w for w in ("circle", "square", "triangle", "star", "cross", "heart")},
    "ball": "circle",
    "box": "square",
    "plus": "cross",
}
COLOURS = ("red", "green", "blue", "yellow", "white", "black")
TEXTURES = {
    "plain": "solid",
    "solid": "solid",
    "striped": "striped",
    "stripy": "striped",
    "stripes": "striped",
    "dotted": "dotted",
    "spotted": "dotted",
    "dots": "dotted",
    "checkered": "checkered",
    "checked": "checkered",
    "checks": "checkered",
}
EMPTY = ("the", "object", "shape", "thing", "one", "with", "in", "on", "at", "to", "")
BIG, SMALL = ("biggest", "largest", "big", "large"), ("smallest", "tiniest", "small", "little")
RELATIONS = {
    "left": r"(?:to the )?left of",
    "right": r"(?:to the )?right of",
    "above": "above|over",
    "below": "below|under|beneath",
    "near": "next to|near|closest to|beside",
}
SIDES = {
    "left": r"(?:far )?left(?: side|most| most)?",
    "right": r"(?:far )?right(?: side|most| most)?",
    "top": "topmost|top|upper|highest",
    "bottom": "bottom|lower|lowest",
    "middle": "middle|center",
}


def named(words: str, things: list[dict]) -> list[dict]:
    """Returns the objects that a noun phrase matches; raises on unknown words."""
    for word in words.split():
        if word in SHAPES:
            things = [t for t in things if t["shape"] == SHAPES[word]]
        elif word in COLOURS:
            things = [t for t in things if t["colour"] == word]
        elif word in TEXTURES:
            things = [t for t in things if t["texture"] == TEXTURES[word]]
        elif word not in EMPTY:
            raise ValueError(f"unknown word {word!r}")
    return things


def reach(thing: dict, side: str) -> float:
    """Returns the distance of an object's centre from a side, as a fraction of the image size."""
    return {
        "left": thing["u"],
        "right": 1 - thing["u"],
        "top": thing["v"],
        "bottom": 1 - thing["v"],
    }[side]


def read(sent: str, things: list[dict]) -> tuple[str, list[dict]]:
    """Returns (kind with its word, unambiguous referents of the sentence) in a scene."""
    for relation, pattern in RELATIONS.items():
        if match := re.fullmatch(rf"(.+) (?:{pattern}) (.+)", sent):
            words = {"left": "left of", "right": "right of", "near": "next to"}
            return f"relation: {words.get(relation, relation)}", related(
                match[1], relation, match[2], things
            )
    rest, side = cut(r"from (?:the )?(left|right|top|bottom)", sent)
    if side:
        rest, rank = cut("(second|2nd|third|3rd)", rest)
        place = {"s": 1, "2": 1}.get(rank[0], 2)
        kind = f"ordinal: {('second', 'third')[place - 1]}"
        return kind, counted(named(rest, things), side, place)
    rest, size = cut(f"({'|'.join(BIG + SMALL)})", sent)
    if size:
        kind = "size: biggest" if size in BIG else "size: smallest"
        return kind, sized(named(rest, things), size in BIG)
    places, rest = [], sent
    for place, pattern in SIDES.items():
        rest, words = cut(f"({pattern})", rest)
        places += [place] if words else []
    if not places:
        return "attribute", named(sent, things)
    rest, _ = cut("(corner)", rest)
    group = several(named(rest, things))
    kind = "side" if len(places) == 1 else "corner"
    places.sort(key=list(SIDES).index)  # "left top" is "top left"
    if kind == "corner":
        places.reverse()
    meant = middle(group) if places == ["middle"] else outermost(group, places)
    return f"{kind}: {' '.join(places)}", meant


def cut(pattern: str, sent: str) -> tuple[str, str]:
    """Returns (the sentence without the first match of complete words, the match's group or '')."""
    match = re.search(rf"\b(?:{pattern})\b", sent)
    return (sent[: match.start()] + sent[match.end() :], match[1]) if match else (sent, "")


def several(group: list[dict]) -> list[dict]:
    assert len(group) >= 2, "the noun is sufficient"
    return group


def outermost(group: list[dict], places: list[str]) -> list[dict]:
    def far(thing: dict) -> float:
        return math.hypot(*(reach(thing, place) for place in places))

    margin, bound = (0.08, 0.6) if len(places) == 1 else (0.12, 0.4)
    return [
        t
        for t in group
        if all(far(o) - far(t) >= margin for o in group if o is not t)
        and all(reach(t, place) <= bound for place in places)
    ]


def middle(group: list[dict]) -> list[dict]:
    def off(thing: dict) -> float:
        return math.hypot(thing["u"] - 0.5, thing["v"] - 0.5)

    def between(thing: dict, axis: str) -> bool:
        return min(o[axis] for o in group) < thing[axis] < max(o[axis] for o in group)

    return [
        t
        for t in group
        if off(t) <= 0.22
        and all(off(o) - off(t) >= 0.1 for o in group if o is not t)
        and (between(t, "u") or between(t, "v"))
    ]


def sized(group: list[dict], big: bool) -> list[dict]:
    def ratios(a: dict, b: dict) -> tuple[float, float]:
        return max(a["w"], a["h"]) / max(b["w"], b["h"]), math.sqrt(a["area"] / b["area"])

    return [
        t
        for t in several(group)
        if all(min(ratios(t, o) if big else ratios(o, t)) >= 1.249 for o in group if o is not t)
    ]


def counted(group: list[dict], side: str, rank: int) -> list[dict]:
    line = sorted(several(group), key=lambda t: reach(t, side))
    assert len(line) >= rank + 2
    places = [reach(t, side) for t in line[: rank + 2]]
    return [line[rank]] if min(np.diff(places)) >= 0.0599 else []


def related(noun: str, relation: str, anchor: str, things: list[dict]) -> list[dict]:
    (other,) = named(anchor, things)
    group = several([t for t in named(noun, things) if t is not other])

    def offset(t: dict) -> tuple[float, float]:  # (along the direction, across it), in pixels
        dx, dy = t["x"] - other["x"], t["y"] - other["y"]
        return {"left": (-dx, dy), "right": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[
            relation
        ]

    if relation == "near":
        far = {id(t): math.hypot(t["x"] - other["x"], t["y"] - other["y"]) for t in group}
        first, second = sorted(far.values())[:2]
        return [t for t in group if far[id(t)] == first and second >= 1.39 * first]
    length = "w" if relation in ("left", "right") else "h"
    side = [t for t in group if offset(t)[0] > 0.4 * abs(offset(t)[1])]
    clear = [
        t
        for t in side
        if offset(t)[0] > abs(offset(t)[1]) and offset(t)[0] > max(t[length], other[length]) / 2
    ]
    return side if len(side) == len(clear) == 1 else []
