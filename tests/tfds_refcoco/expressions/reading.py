"""An independent parser for generated English: all possible referents of a sentence.

It does not use the programs or their thresholds. It decodes the masks again and implements the
meaning of each word less strictly: the result has every object that the sentence might refer to.
"""

import math
import re
from dataclasses import dataclass

import cv2
import numpy as np

from tfds_refcoco.expressions.words import coco_names

COLOURS = {  # RGB
    "red": [(200, 20, 20), (120, 15, 20), (215, 65, 50), (150, 55, 50)],
    "orange": [(245, 130, 20), (225, 120, 50)],
    "yellow": [(240, 225, 40), (250, 240, 130), (210, 185, 45)],
    "green": [(30, 140, 40), (100, 190, 90), (20, 70, 30)],
    "blue": [(25, 60, 190), (90, 150, 230), (20, 30, 90), (65, 95, 150), (95, 150, 180)],
    "purple": [(120, 40, 160), (90, 50, 110)],
    "pink": [(250, 150, 190), (235, 90, 150)],
    "brown": [(110, 65, 30), (80, 50, 30)],
    "white": [(245, 245, 245), (222, 224, 228)],
    "black": [(15, 15, 15), (38, 38, 38)],
    "gray": [(95, 95, 95), (150, 150, 150), (185, 185, 185)],
    "beige": [(205, 175, 140), (160, 125, 90)],
}
_NAMES = [name for name, rgbs in COLOURS.items() for _ in rgbs]
_LAB = cv2.cvtColor(
    np.array([[rgb for rgbs in COLOURS.values() for rgb in rgbs]], np.uint8), cv2.COLOR_RGB2LAB
)[0].astype(np.float32)

RANKS = {"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3}
BIG = "bigger|biggest|larger|largest|big|large"
SMALL = "smaller|smallest|littlest|tiniest|small|little"
RELATIONS = {
    "with": "with the|with an|with a|with|who has an|who has a|who has the|who has"
    "|that has the|that has",
    "left": "to the left of the|left of the|left of|on the left of the",
    "right": "to the right of the|right of the|right of|on the right of the",
    "above": "above the|above|higher up than the",
    "below": "below the|below|lower down than the",
    "on": "on top of the|that is on the|on the|on",
    "near": "right by the|close to the|alongside the|next to the|next to|beside the|by the"
    "|near the",
}
ROLES = {
    "surfer": "surfboard",
    "skateboarder": "skateboard",
    "skier": "skis",
    "snowboarder": "snowboard",
    "tennis player": "tennis racket",
    "batter": "baseball bat",
}
SIDES = {
    "left": "left most|leftmost|far left|farthest left|furthest to the left|left hand side"
    "|left side|left",
    "right": "right most|rightmost|far right|farthest right|furthest to the right|right hand side"
    "|right side|right",
    "top": "top most|topmost|uppermost|highest|very top|upper part|up top|upper|top",
    "bottom": "bottom most|bottommost|lowermost|lowest|very bottom|lower part|lower|bottom",
    "centre": "middle of the picture|center of the photo|center|central",
    "middle": "in between|between the other two|middle",
}
KINDS = {"category", "colour", "side", "ordinal", "size", "corner", "centre", "relation"}
_NAMED = {"left of": "left", "right of": "right", "next to": "near"}  # RELATIONS by recorded kind
EMPTY = {"the", "on", "in", "at", "to", "of", "only", "picture", "corner", "down", "photo"}


@dataclass
class Seen:
    """An object for the parser; `mask` is bool [h, w]."""

    ann_id: int
    category: str
    mask: np.ndarray
    crowd: bool

    def __post_init__(self):
        rows, columns = np.nonzero(self.mask)
        h, w = self.mask.shape
        self.area = len(rows)
        self.box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        x0, y0, x1, y1 = self.box
        self.edges = {"left": x0 / w, "top": y0 / h, "right": 1 - x1 / w, "bottom": 1 - y1 / h}
        self.u, self.v = (x0 + x1) / 2 / w, (y0 + y1) / 2 / h
        self.size = math.hypot(w, h)

    def far(self, side: str) -> float:
        if self.crowd:  # a member may be at its edge
            return self.edges[side]
        return {"left": self.u, "right": 1 - self.u, "top": self.v, "bottom": 1 - self.v}[side]


class Reader:
    """Parses sentences about a picture, RGB [h, w, 3] or None if no sentence names colours."""

    def __init__(self, things: list[Seen], pixels: np.ndarray | None, names=None):
        self.things, self.pixels = things, pixels
        self.nouns: dict[str, set[str]] = {}
        for category, nouns in (names or coco_names()).items():
            for noun in nouns:
                self.nouns.setdefault(_bare(noun), set()).add(category)
        self._nearest = None

    def read(self, text: str) -> list[int]:
        """Returns the ids of the annotations that the sentence may refer to."""
        return [thing.ann_id for thing in self._read(text.removeprefix("the "))]

    def _read(self, text: str) -> list[Seen]:
        if text in ROLES:
            return self._related(self._named("person"), "with", self._named(ROLES[text]))
        for relation, pattern in RELATIONS.items():
            for words in sorted(pattern.split("|"), key=len, reverse=True):
                if not (match := re.fullmatch(rf"(.+?) {words} (.+)", text)):
                    continue
                try:
                    anchors = self._named(match[2])
                    group = self._named(match[1])
                except ValueError:
                    continue  # "person in red on the left", "person with red clothes"
                return self._related(group, relation, anchors)
        if match := re.fullmatch(
            r"(.*?)(?:in |counting )?from (?:the )?(left|right|top|bottom)", text
        ):
            rest, rank = _cut("|".join(RANKS), match[1])
            return _ranked(self._named(rest), RANKS[rank], match[2])
        for words, biggest in ((BIG, True), (SMALL, False)):
            rest, word = _cut(
                f"that is (?:the )?(?:{words})|(?:{words})(?: of the(?: two)?)?", text
            )
            if word:
                assert ("er" in word.split()[-1] or "two" in word) <= (len(self._named(rest)) == 2)
                return _sized(self._named(rest), biggest)
        places, rest = [], text
        for side, pattern in SIDES.items():
            rest, word = _cut(pattern, rest)
            places += [side] if word else []
        group = self._named(rest)
        if not places:
            return group
        if places == ["centre"]:
            return [t for t in group if abs(t.u - 0.5) < 0.2 and abs(t.v - 0.5) < 0.2]
        if places == ["middle"]:
            return _middle(group)
        if len(places) == 1:
            least = min((thing.far(places[0]) for thing in group), default=0)
            return [thing for thing in group if thing.far(places[0]) < least + 0.07]
        return [thing for thing in group if all(thing.far(side) < 0.5 for side in places)]

    def _named(self, words: str) -> list[Seen]:
        """Returns the objects that a noun phrase matches; raises ValueError on unknown words."""
        spoken, colour, pattern = words, "", "|".join(COLOURS)
        for form in (
            rf"that is ({pattern})",
            rf"(?:dressed in|wearing|in) ({pattern})(?: shirt)?",
            rf"({pattern}) shirt",
            rf"with ({pattern}) clothes",
            rf"({pattern}) colored",
            rf"({pattern}) (?=\w)",
        ):
            if match := re.search(rf"\b{form}", words):
                words = words[: match.start()] + words[match.end() :]
                colour = match[1]
                break
        noun = _bare(words)
        if not noun and "shirt" in spoken:
            noun = "person"
        if noun not in self.nouns:
            plurals = {_plural(n): n for n in self.nouns}
            if noun not in plurals:
                raise ValueError(f"unknown noun {noun!r} of {words!r}")
            noun = plurals[noun]
        group = [thing for thing in self.things if thing.category in self.nouns[noun]]
        return [t for t in group if self._looks(t, colour)] if colour else group

    def _looks(self, thing: Seen, colour: str) -> bool:
        if self._nearest is None:
            lab = cv2.cvtColor(self.pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
            distance = [((lab - one) ** 2).sum(-1) for one in _LAB]
            self._nearest = np.argmin(distance, 0)
        mask = thing.mask.copy()
        if thing.category == "person":
            _, y0, _, y1 = thing.box
            mask[: y0 + int(0.18 * (y1 - y0))] = False
            mask[y0 + int(0.55 * (y1 - y0)) :] = False
        mask = mask if mask.any() else thing.mask
        of = [i for i, name in enumerate(_NAMES) if name == colour]
        return float(np.isin(self._nearest[mask], of).mean()) > 0.4

    def _related(self, group: list[Seen], relation: str, anchors: list[Seen]) -> list[Seen]:
        assert len(anchors) == 1, "the anchor is not unique"
        (anchor,) = anchors
        group = [thing for thing in group if thing is not anchor]
        if relation in ("on", "with"):
            h, w = anchor.mask.shape
            r = max(2, round(max(h, w) / 640 * 5))
            grown = cv2.dilate(anchor.mask.astype(np.uint8), np.ones((2 * r + 1,) * 2, np.uint8))
            return [thing for thing in group if (grown.astype(bool) & thing.mask).any()]
        if relation == "near":
            gaps = {id(t): _gap(t, anchor) / anchor.size for t in group}
            return [t for t in group if gaps[id(t)] < min(gaps.values(), default=0) + 0.1]
        sides = {"left": "left", "right": "right", "above": "top", "below": "bottom"}
        side = sides[relation]
        return [
            thing
            for thing in group
            if (thing.edges[side] if thing.crowd else thing.far(side)) < anchor.far(side)
        ]


def says(text: str, kind: str) -> bool:
    """Whether a sentence has the words of its recorded kind."""
    name, _, word = kind.removesuffix(", new wording").partition(": ")
    assert name in KINDS and bool(word) == (name not in ("category", "colour", "centre")), kind
    if text.removeprefix("the ") in ROLES:
        return kind == "relation: with"
    words = {
        "category": [""],
        "colour": ["|".join(COLOURS)],
        "side": [SIDES.get(word)],
        "corner": [SIDES.get(side) for side in word.split()],
        "centre": [SIDES["centre"]],
        "ordinal": ["|".join(w for w, rank in RANKS.items() if rank == RANKS.get(word))],
        "size": [{"biggest": BIG, "smallest": SMALL}.get(word)],
        "relation": [RELATIONS.get(_NAMED.get(word, word))],
    }[name]
    return all(w is not None and re.search(rf"\b(?:{w})\b", text) for w in words)


def _cut(pattern: str, text: str) -> tuple[str, str]:
    match = re.search(rf"\b(?:{pattern})\b", text)
    return (text[: match.start()] + text[match.end() :], match[0]) if match else (text, "")


def _bare(words: str) -> str:
    return " ".join(word for word in words.split() if word not in EMPTY)


def _plural(noun: str) -> str:
    special = {"person": "people", "sheep": "sheep", "knife": "knives"}
    if noun in special:
        return special[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def _gap(a: Seen, b: Seen) -> float:
    x = max(a.box[0], b.box[0]) - min(a.box[2], b.box[2])
    y = max(a.box[1], b.box[1]) - min(a.box[3], b.box[3])
    return math.hypot(max(x, 0), max(y, 0))


def _ranked(group: list[Seen], rank: int, side: str) -> list[Seen]:
    assert len(group) > rank, "counted from the other end"
    if any(thing.crowd for thing in group):
        return group
    answer = []
    for thing in group:
        others = [o.far(side) for o in group if o is not thing]
        surely = sum(far < thing.far(side) - 0.05 for far in others)
        perhaps = sum(far < thing.far(side) + 0.05 for far in others)
        answer += [thing] if surely < rank <= perhaps + 1 else []
    return answer


def _sized(group: list[Seen], biggest: bool) -> list[Seen]:
    assert len(group) > 1, "there is only one"
    if any(thing.crowd for thing in group):
        return group
    areas = [thing.area for thing in group]
    if biggest:
        return [thing for thing in group if 1.5 * thing.area > max(areas)]
    return [thing for thing in group if thing.area < 1.5 * min(areas)]


def _middle(group: list[Seen]) -> list[Seen]:
    """Returns the second of three objects in a row."""
    assert len(group) == 3 and not any(thing.crowd for thing in group)
    side = "left" if np.ptp([t.u for t in group]) > np.ptp([t.v for t in group]) else "top"
    return [sorted(group, key=lambda t: t.far(side))[1]]
