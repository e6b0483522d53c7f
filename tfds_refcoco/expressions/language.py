"""Referring expressions as small programs: their types, and which objects they may mean.

`execute` is strict. Where a person could hesitate (the runner-up is almost as far left, a group
that was not told apart reaches to the left) it returns every contender, so that an expression is
good only if one object is left and that object is certainly what the noun says.
"""

from dataclasses import dataclass

from tfds_refcoco.expressions import places, relations
from tfds_refcoco.expressions.scene import Scene, Thing
from tfds_refcoco.expressions.words import Vocabulary

CLEAR_SHARE = 0.5  # of an object's pixels that clearly have the colour it is called by
RIVAL_SHARE = 0.22  # of a rival's pixels that may be called so, at most

SIDES = ("left", "right", "top", "bottom")
CORNERS = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True, slots=True)
class Noun:
    """A word of the vocabulary, and a colour or none."""

    word: str
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """The only one there is."""

    noun: Noun


@dataclass(frozen=True, slots=True)
class Colour:
    """The only one of its colour, among others."""

    noun: Noun


@dataclass(frozen=True, slots=True)
class Side:
    """The one on a side (`farthest`: the one nearest to it), or in the middle of three."""

    noun: Noun
    side: str  # of SIDES, or "middle"
    farthest: bool = False


@dataclass(frozen=True, slots=True)
class Ordinal:
    """The first, second or third of a row, counted from a side."""

    noun: Noun
    rank: int
    side: str  # of SIDES


@dataclass(frozen=True, slots=True)
class Size:
    """The biggest or smallest."""

    noun: Noun
    biggest: bool
    of_two: bool


@dataclass(frozen=True, slots=True)
class Place:
    """The one in a corner of the picture, or in its centre."""

    noun: Noun
    place: str  # of CORNERS, or "centre"


@dataclass(frozen=True, slots=True)
class Relation:
    """The one that stands so to another object, which its noun alone singles out."""

    noun: Noun
    relation: str  # of relations.RELATIONS
    anchor: Noun


Program = Category | Colour | Side | Ordinal | Size | Place | Relation
_RANKS = {1: "first", 2: "second", 3: "third"}


def kind_of(program: Program) -> str:
    """Names the kind of an expression and, after a colon, its word: "relation: next to"."""
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
    """Indices of the things, crowds and tiny ones included, that `noun` may mean."""
    denotes = vocabulary.denotes[noun.word]
    return [
        i
        for i, thing in enumerate(scene.things)
        if thing.category in denotes
        and (noun.colour is None or thing.possible.get(noun.colour, 1.0) > RIVAL_SHARE)
    ]


def certain(noun: Noun, thing: Thing, vocabulary: Vocabulary) -> bool:
    """Whether `noun` is right for a thing."""
    return noun.word in vocabulary.names[thing.category] and (
        noun.colour is None or thing.clear.get(noun.colour, 0.0) >= CLEAR_SHARE
    )


def execute(program: Program, scene: Scene, vocabulary: Vocabulary) -> frozenset[int]:
    """Indices of the things `program` may mean: one where a person would have no doubt.

    None where it is odd to say so: "leftmost" far from the left, "second" in no row.
    """
    found = possible(program.noun, scene, vocabulary)
    match program:
        case Category() | Colour():
            return frozenset(found)
        case Side(side="middle"):
            return places.middle(found, scene)
        case Side(side=side, farthest=farthest):
            return places.sided(found, scene, side, farthest)
        case Ordinal(rank=rank, side=side):
            return places.ranked(found, scene, rank, side)
        case Size(biggest=biggest, of_two=of_two):
            if of_two != (len(found) == 2):
                return frozenset()
            return places.sized(found, scene, biggest)
        case Place(place="centre"):
            return places.central(found, scene)
        case Place(place=place):
            return places.cornered(found, scene, place)
        case Relation(relation=relation, anchor=noun):
            anchors = possible(noun, scene, vocabulary)
            if len(anchors) != 1 or not certain(noun, scene.things[anchors[0]], vocabulary):
                return frozenset()
            found = [i for i in found if i != anchors[0]]
            return relations.related(found, scene, relation, anchors[0])
