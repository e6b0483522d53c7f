"""Sampling of the referents of a scene, and of their expressions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tfds_refcoco.shapes.english import verbalise
from tfds_refcoco.shapes.language import (
    CORNERS,
    DIRECTIONS,
    SIDES,
    Attribute,
    Location,
    Noun,
    Order,
    Program,
    Relation,
    Size,
    execute,
    kind_of,
    matches,
)
from tfds_refcoco.shapes.scene import Scene, sample_scene

# Sampling weight of each kind. Not every kind is possible in a scene, so the resulting fractions
# differ: about 34, 36, 11, 7 and 12% of the sentences.
KINDS: dict[type, float] = {
    Attribute: 0.9,
    Location: 0.3,
    Size: 0.25,
    Order: 0.05,
    Relation: 0.07,
}
REFERENTS = (0.0, 0.5, 0.5)  # probabilities of 1, 2, 3 referents per scene
SENTENCES = (0.2, 0.5, 0.3)  # probabilities of 1, 2, 3 sentences per referent

# Whether a noun phrase names (shape, colour, texture), and its sampling weight.
NOUN_FIELDS = {
    (True, False, False): 0.45,
    (False, False, False): 0.22,
    (False, True, False): 0.16,
    (True, True, False): 0.14,
    (False, False, True): 0.02,
    (True, False, True): 0.02,
    (False, True, True): 0.005,
    (True, True, True): 0.005,
}
_FIELDS = tuple(NOUN_FIELDS)
_FIELD_WEIGHTS = tuple(NOUN_FIELDS.values())
SPARE_WORD = 0.15  # probability that an attribute phrase may be redundant

CAPITAL = 0.2  # probability that the raw sentence starts with a capital letter
FULL_STOP = 0.1


@dataclass(frozen=True, slots=True)
class Referent:
    """A referent: its index in the scene and (cleaned, raw, kind) of its sentences."""

    index: int
    sentences: tuple[tuple[str, str, str], ...]


def sample(rng: np.random.Generator, split: str) -> tuple[Scene, list[Referent]]:
    """Samples a scene and at least two referents in it, each with one to three sentences."""
    while True:
        scene = sample_scene(rng, split)
        referents = sample_referents(rng, scene)
        if len(referents) >= 2:
            return scene, referents


def sample_referents(rng: np.random.Generator, scene: Scene) -> list[Referent]:
    """Samples objects and generates expressions for each."""
    wanted = 1 + int(rng.choice(len(REFERENTS), p=REFERENTS))
    referents: list[Referent] = []
    for index in rng.permutation(len(scene.things)).tolist():
        sentences = _sentences(rng, scene, index)
        if sentences:
            referents.append(Referent(index, sentences))
        if len(referents) == wanted:
            break
    return referents


def _sentences(
    rng: np.random.Generator, scene: Scene, index: int
) -> tuple[tuple[str, str, str], ...]:
    """Returns sentences of different kinds for an object; empty if none identifies it."""
    wanted = 1 + int(rng.choice(len(SENTENCES), p=SENTENCES))
    sentences: list[tuple[str, str, str]] = []
    for number in _order(rng, tuple(KINDS.values())):
        kind = tuple(KINDS)[number]
        for program in _candidates(rng, scene, index, kind):
            if _good(program, scene, index, rng):
                sent = verbalise(program, rng)
                sentences.append((sent, _raw(sent, rng), kind_of(program)))
                break
        if len(sentences) == wanted:
            break
    return tuple(sentences)


def _order(rng: np.random.Generator, weights: tuple[float, ...]) -> list[int]:
    """Returns a random order in which higher weights tend to come first."""
    order: list[int] = np.argsort(rng.exponential(size=len(weights)) / weights).tolist()
    return order


def _nouns(rng: np.random.Generator, scene: Scene, index: int) -> Iterator[Noun]:
    """Yields descriptions that match the object, natural ones more likely first."""
    thing = scene.things[index]
    for number in _order(rng, _FIELD_WEIGHTS):
        shape, colour, texture = _FIELDS[number]
        yield Noun(
            thing.shape if shape else None,
            thing.colour if colour else None,
            thing.texture if texture else None,
        )


def _candidates(
    rng: np.random.Generator, scene: Scene, index: int, kind: type
) -> Iterator[Program]:
    """Yields programs of one kind that may identify the object."""
    for noun in _nouns(rng, scene, index):
        if kind is Attribute:
            yield Attribute(noun)
        elif len(matches(noun, scene)) < 2:
            continue  # the noun is sufficient
        elif kind is Location:
            places = (*SIDES, *CORNERS, "middle")
            yield from (Location(noun, places[i]) for i in rng.permutation(len(places)))
        elif kind is Size:
            yield from (Size(noun, biggest) for biggest in (True, False))
        elif kind is Order:
            sides = [SIDES[i] for i in rng.permutation(len(SIDES))]
            yield from (Order(noun, rank, side) for side in sides for rank in (2, 3))
        else:
            yield from _relations(rng, scene, index, noun)


def _relations(
    rng: np.random.Generator, scene: Scene, index: int, noun: Noun
) -> Iterator[Relation]:
    fitting = matches(noun, scene)
    for other in rng.permutation(len(scene.things)).tolist():
        if other == index or len(fitting) - (other in fitting) < 2:
            continue  # the noun is sufficient
        anchor = next(
            (
                anchor
                for anchor in _nouns(rng, scene, other)
                if anchor != Noun() and _good(Attribute(anchor), scene, other, rng)
            ),
            None,
        )
        if anchor is None:
            continue
        relations = (*DIRECTIONS, "next to")
        yield from (Relation(noun, relations[i], anchor) for i in rng.permutation(5))


def _good(program: Program, scene: Scene, index: int, rng: np.random.Generator) -> bool:
    """Whether `program` refers to exactly this object without redundant attributes."""
    noun = program.noun
    if isinstance(program, Attribute) and noun == Noun():
        return False
    if execute(program, scene) != {index}:
        return False
    # In other phrases the shape is just the noun, as in "left star", so it is never redundant.
    fields = ["colour", "texture"]
    if isinstance(program, Attribute):
        if rng.random() < SPARE_WORD:
            return True
        fields.append("shape")
    spare = (
        replace(program, noun=replace(noun, **{field: None}))
        for field in fields
        if getattr(noun, field) is not None
    )
    return all(execute(shorter, scene) != {index} for shorter in spare)


def _raw(sent: str, rng: np.random.Generator) -> str:
    """Returns the sentence with random capitalization and full stop."""
    raw = sent.capitalize() if rng.random() < CAPITAL else sent
    return raw + "." if rng.random() < FULL_STOP else raw
