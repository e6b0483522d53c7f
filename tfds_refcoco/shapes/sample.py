"""Which objects of a scene are referred to, and by which expressions."""

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

# How readily each kind is tried. Kinds differ in how often a scene allows them, so these are not
# the shares that come out: about 34, 36, 11, 7 and 12% of the sentences.
KINDS: dict[type, float] = {
    Attribute: 0.9,
    Location: 0.3,
    Size: 0.25,
    Order: 0.05,
    Relation: 0.07,
}
REFERENTS = (0.0, 0.5, 0.5)  # chances of 1, 2, 3 referents in a scene
SENTENCES = (0.2, 0.5, 0.3)  # chances of 1, 2, 3 sentences for a referent

# (shape, colour, texture) named by a head noun, and how readily.
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
SPARE_WORD = 0.15  # chance that an attribute phrase may say more than it needs

CAPITAL = 0.2  # chance that the raw sentence starts with a capital
FULL_STOP = 0.1


@dataclass(frozen=True, slots=True)
class Referent:
    """One object referred to: its index in the scene and (cleaned, raw, kind) of its sentences."""

    index: int
    sentences: tuple[tuple[str, str, str], ...]


def sample(rng: np.random.Generator, split: str) -> tuple[Scene, list[Referent]]:
    """Draws a scene and at least two referents in it, each with one to three sentences."""
    while True:
        scene = sample_scene(rng, split)
        referents = sample_referents(rng, scene)
        if len(referents) >= 2:
            return scene, referents


def sample_referents(rng: np.random.Generator, scene: Scene) -> list[Referent]:
    """Picks objects at random, whatever their looks, and says what can be said of each."""
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
    """Sentences of different kinds for one object; none where nothing singles it out."""
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
    """A random order in which heavier ones tend to come first."""
    order: list[int] = np.argsort(rng.exponential(size=len(weights)) / weights).tolist()
    return order


def _nouns(rng: np.random.Generator, scene: Scene, index: int) -> Iterator[Noun]:
    """Descriptions that fit the object, the natural ones tending to come first."""
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
    """Programs of one kind that might single out the object."""
    for noun in _nouns(rng, scene, index):
        if kind is Attribute:
            yield Attribute(noun)
        elif len(matches(noun, scene)) < 2:
            continue  # the noun alone would do
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
            continue  # the noun alone would do
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
    """Whether `program` means exactly the object, and says no more than it needs to."""
    noun = program.noun
    if isinstance(program, Attribute) and noun == Noun():
        return False
    if execute(program, scene) != {index}:
        return False
    # Outside attribute phrases a shape is only the noun: "left star" is what people say.
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
    """The sentence as it might have been typed."""
    raw = sent.capitalize() if rng.random() < CAPITAL else sent
    return raw + "." if rng.random() < FULL_STOP else raw
