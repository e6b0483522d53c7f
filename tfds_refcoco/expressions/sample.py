"""Sampling of the referents of a scene, and of their expressions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tfds_refcoco.expressions.english import HELD_BACK, verbalise
from tfds_refcoco.expressions.language import (
    CLEAR_SHARE,
    CORNERS,
    SIDES,
    Category,
    Colour,
    Noun,
    Ordinal,
    Place,
    Program,
    Relation,
    Side,
    Size,
    certain,
    execute,
    kind_of,
    possible,
)
from tfds_refcoco.expressions.relations import RELATIONS
from tfds_refcoco.expressions.scene import Scene
from tfds_refcoco.expressions.words import UNCOUNTED, USUAL, Vocabulary

# Sampling weight of each kind. Not every kind is possible in a scene, so the resulting fractions
# differ.
WEIGHTS: dict[type, float] = {
    Category: 0.25,
    Colour: 1.5,
    Side: 0.8,
    Ordinal: 0.6,
    Size: 0.6,
    Place: 0.35,
    Relation: 0.9,
}
REFERENTS = 8  # maximum number per image and draw
SENTENCES = (0.1, 0.3, 0.6)  # probabilities of 1, 2, 3 sentences per referent
SPARE_COLOUR = 0.35  # probability that a possibly redundant colour is tried first
FIRST = 0.3  # probability of "first from the left", usually the same as leftmost
HELD = 0.5  # probability of a held-back wording, if allowed


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression: its text, its kind, and its program.

    The kind is the result of `kind_of`, with the suffix `HELD_BACK` for held-back wordings.
    """

    text: str
    kind: str
    program: Program


@dataclass(frozen=True, slots=True)
class Referent:
    """A referent: its index in the scene, and its expressions.

    The expressions of a single draw have different kinds.
    """

    index: int
    expressions: tuple[Expression, ...]


def sample_referents(
    rng: np.random.Generator,
    scene: Scene,
    vocabulary: Vocabulary,
    *,
    held_back: bool,
    loose: bool = False,
    draws: int = 1,
) -> list[Referent]:
    """Samples referents and their expressions; returns them in the order of the scene.

    Args:
      rng: random generator.
      scene: the scene of the picture.
      vocabulary: nouns of its categories.
      held_back: whether to use held-back wordings for half of the sentences.
      loose: whether to use `english.LOOSE_NOUNS` for people.
      draws: number of sampling passes; duplicate texts of an object are removed.
    """
    by_index: dict[int, dict[str, Expression]] = {}
    for _ in range(draws):
        for referent in _draw(rng, scene, vocabulary, held_back, loose):
            by_text = by_index.setdefault(referent.index, {})
            for expression in referent.expressions:
                by_text.setdefault(expression.text, expression)
    return [Referent(index, tuple(by_index[index].values())) for index in sorted(by_index)]


def _draw(
    rng: np.random.Generator, scene: Scene, vocabulary: Vocabulary, held_back: bool, loose: bool
) -> list[Referent]:
    referents: list[Referent] = []
    for index in rng.permutation(len(scene.things)).tolist():
        if not scene.things[index].salient:
            continue
        if expressions := _expressions(rng, scene, index, vocabulary, held_back, loose):
            referents.append(Referent(index, expressions))
        if len(referents) == REFERENTS:
            break
    return referents


def _expressions(
    rng: np.random.Generator,
    scene: Scene,
    index: int,
    vocabulary: Vocabulary,
    held_back: bool,
    loose: bool,
) -> tuple[Expression, ...]:
    wanted = 1 + int(rng.choice(len(SENTENCES), p=SENTENCES))
    category = scene.things[index].category
    expressions: list[Expression] = []
    kinds = tuple(WEIGHTS)
    order = np.argsort(rng.exponential(size=len(kinds)) / tuple(WEIGHTS.values()))
    for number in order.tolist():
        program = _program(rng, scene, index, vocabulary, kinds[number])
        if program is None:
            continue
        held = held_back and bool(rng.random() < HELD)
        text = verbalise(program, category, rng, held_back=held, loose=loose)
        expressions.append(Expression(text, kind_of(program) + HELD_BACK * held, program))
        if len(expressions) == wanted:
            break
    return tuple(expressions)


def _program(
    rng: np.random.Generator, scene: Scene, index: int, vocabulary: Vocabulary, kind: type
) -> Program | None:
    """Returns a program of one kind that refers only to the object, or None."""
    for noun in _nouns(rng, scene, index, vocabulary):
        for program in _candidates(rng, scene, index, vocabulary, kind, noun):
            if execute(program, scene, vocabulary) == {index}:
                return program
    return None


def _nouns(
    rng: np.random.Generator, scene: Scene, index: int, vocabulary: Vocabulary
) -> Iterator[Noun]:
    """Yields nouns that are correct for the object: a word, alone and with its colours."""
    thing = scene.things[index]
    word = _word(rng, vocabulary, thing.category)
    named = [colour for colour, share in thing.clear.items() if share >= CLEAR_SHARE]
    nouns = [Noun(word), *(Noun(word, colour) for colour in named if colour != word)]
    # People also name redundant colours.
    yield from reversed(nouns) if rng.random() < SPARE_COLOUR else nouns


def _word(rng: np.random.Generator, vocabulary: Vocabulary, category: str) -> str:
    names = vocabulary.names[category]
    if len(names) == 1 or rng.random() < USUAL:
        return names[0]
    return names[int(rng.integers(1, len(names)))]


def _candidates(
    rng: np.random.Generator,
    scene: Scene,
    index: int,
    vocabulary: Vocabulary,
    kind: type,
    noun: Noun,
) -> Iterator[Program]:
    """Yields programs of one kind that may identify the object.

    Sides, places, ordinals and sizes require several objects. Relations and colours are also used
    for a single object: "cat on the couch".
    """
    if not certain(noun, scene.things[index], vocabulary):
        return
    if kind is Category:
        if noun.colour is None:
            yield Category(noun)
        return
    if kind is Colour:
        if noun.colour:
            yield Colour(noun)
        return
    if kind is Relation:
        yield from _relations(rng, scene, index, vocabulary, noun)
        return
    candidates = possible(noun, scene, vocabulary)
    if len(possible(Noun(noun.word), scene, vocabulary)) < 2:
        return
    # Objects are not counted or compared if a match is uncertain: a truck among cars, a dull red.
    all_certain = all(certain(noun, scene.things[i], vocabulary) for i in candidates)
    rivals = len(candidates) if all_certain else 0
    if kind is Side:
        sides = [SIDES[i] for i in rng.permutation(len(SIDES))]
        yield from [Side(noun, "middle")] if all_certain else ()
        yield from (Side(noun, side) for side in sides)
        yield from (Side(noun, side, farthest=True) for side in sides if rivals > 2)
    elif kind is Place:
        yield from (Place(noun, place) for place in (*CORNERS, "centre"))
    elif rivals < 2:
        return
    elif kind is Ordinal and noun.word not in UNCOUNTED:
        sides = [SIDES[i] for i in rng.permutation(len(SIDES))]
        yield from (Ordinal(noun, rank, side) for rank in (3, 2) for side in sides)
        if rng.random() < FIRST:
            yield from (Ordinal(noun, 1, side) for side in sides)
    elif kind is Size and noun.word not in UNCOUNTED:
        yield from (Size(noun, biggest, rivals == 2) for biggest in (True, False))


def _relations(
    rng: np.random.Generator, scene: Scene, index: int, vocabulary: Vocabulary, noun: Noun
) -> Iterator[Relation]:
    for relation in RELATIONS:  # the more specific ones first
        for other in rng.permutation(len(scene.things)).tolist():
            if other == index or scene.things[other].crowd:
                continue
            word = _word(rng, vocabulary, scene.things[other].category)
            if word != noun.word and possible(Noun(word), scene, vocabulary) == [other]:
                yield Relation(noun, relation, Noun(word))
