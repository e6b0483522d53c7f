"""Referring expressions as small programs: their types and their semantics.

`execute` is strict. If an expression is ambiguous to people (the runner-up is almost as far left, a
crowd annotation extends to the left), it returns all possible objects. An expression is valid only
if it returns one object and that object certainly matches the noun.
"""

from dataclasses import dataclass

from tfds_refcoco.expressions import places, relations
from tfds_refcoco.expressions.scene import Scene, Thing
from tfds_refcoco.expressions.words import Vocabulary

CLEAR_SHARE = 0.5  # minimum fraction of an object's pixels that clearly have its colour
RIVAL_SHARE = 0.22  # maximum fraction of a rival's pixels that possibly have the colour

SIDES = ("left", "right", "top", "bottom")
CORNERS = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True, slots=True)
class Noun:
    """A word of the vocabulary with an optional colour."""

    word: str
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """The only matching object."""

    noun: Noun


@dataclass(frozen=True, slots=True)
class Colour:
    """The only object with its colour."""

    noun: Noun


@dataclass(frozen=True, slots=True)
class Side:
    """The object on a side (`farthest`: the nearest to the side), or in the middle of three."""

    noun: Noun
    side: str  # one of SIDES, or "middle"
    farthest: bool = False


@dataclass(frozen=True, slots=True)
class Ordinal:
    """The first, second or third object in a row, counted from a side."""

    noun: Noun
    rank: int
    side: str  # one of SIDES


@dataclass(frozen=True, slots=True)
class Size:
    """The biggest or smallest object."""

    noun: Noun
    biggest: bool
    of_two: bool


@dataclass(frozen=True, slots=True)
class Place:
    """The object in a corner or in the centre of the picture."""

    noun: Noun
    place: str  # one of CORNERS, or "centre"


@dataclass(frozen=True, slots=True)
class Relation:
    """The object with a relation to another object (anchor) that its noun identifies."""

    noun: Noun
    relation: str  # one of relations.RELATIONS
    anchor: Noun


Program = Category | Colour | Side | Ordinal | Size | Place | Relation
_RANKS = {1: "first", 2: "second", 3: "third"}


def kind_of(program: Program) -> str:
    """Returns the kind of an expression with its specific word, such as "relation: next to"."""
    match program:
        case Category():
            return "category"
        case Colour():
            return "colour"
        case Side(side=side):
            return f"side: {side}"
        case Ordinal(rank=rank):
            return f"ordinal: {_RANKS[rank]}"
        case Size(biggest=biggest):
            return f"size: {'biggest' if biggest else 'smallest'}"
        case Place(place=place):
            return f"corner: {place}" if place in CORNERS else place
        case Relation(relation=relation):
            return f"relation: {relation}"


def possible(noun: Noun, scene: Scene, vocabulary: Vocabulary) -> list[int]:
    """Returns the indices of the objects, with crowds and tiny ones, that `noun` may mean."""
    denotes = vocabulary.denotes[noun.word]
    return [
        i
        for i, thing in enumerate(scene.things)
        if thing.category in denotes
        and (noun.colour is None or thing.possible.get(noun.colour, 1.0) > RIVAL_SHARE)
    ]


def certain(noun: Noun, thing: Thing, vocabulary: Vocabulary) -> bool:
    """Whether `noun` is certainly correct for an object."""
    return noun.word in vocabulary.names[thing.category] and (
        noun.colour is None or thing.clear.get(noun.colour, 0.0) >= CLEAR_SHARE
    )


def execute(program: Program, scene: Scene, vocabulary: Vocabulary) -> frozenset[int]:
    """Returns the indices of the objects that `program` may refer to: one if unambiguous.

    Empty if the expression is unnatural: "leftmost" far from the left, "second" without a row.
    """
    candidates = possible(program.noun, scene, vocabulary)
    match program:
        case Category() | Colour():
            return frozenset(candidates)
        case Side(side="middle"):
            return places.middle(candidates, scene)
        case Side(side=side, farthest=farthest):
            return places.sided(candidates, scene, side, farthest)
        case Ordinal(rank=rank, side=side):
            return places.ranked(candidates, scene, rank, side)
        case Size(biggest=biggest, of_two=of_two):
            if of_two != (len(candidates) == 2):
                return frozenset()
            return places.sized(candidates, scene, biggest)
        case Place(place="centre"):
            return places.central(candidates, scene)
        case Place(place=place):
            return places.cornered(candidates, scene, place)
        case Relation(relation=relation, anchor=noun):
            anchors = possible(noun, scene, vocabulary)
            if len(anchors) != 1 or not certain(noun, scene.things[anchors[0]], vocabulary):
                return frozenset()
            candidates = [i for i in candidates if i != anchors[0]]
            return relations.related(candidates, scene, relation, anchors[0])
