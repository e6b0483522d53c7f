"""Which objects of a scene are referred to, and by which expressions."""

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

# How readily each kind is tried. Kinds differ in how often a scene allows them, so these are not
# the shares that come out.
WEIGHTS: dict[type, float] = {
    Category: 0.25,
    Colour: 1.5,
    Side: 0.8,
    Ordinal: 0.6,
    Size: 0.6,
    Place: 0.35,
    Relation: 0.9,
}
REFERENTS = 8  # of an image and a draw, at most
SENTENCES = (0.1, 0.3, 0.6)  # chances of 1, 2, 3 sentences for a referent
SPARE_COLOUR = 0.35  # chance that a colour is named first, needed or not
FIRST = 0.3  # chance of "first from the left", which mostly is the leftmost one
HELD = 0.5  # chance of a held back wording, where they are allowed


@dataclass(frozen=True, slots=True)
class Expression:
    """What refers to an object: the words, their kind, and the program they were made from.

    The kind is as `kind_of` returns it, and ends in `HELD_BACK` if the wording was held back.
    """

    text: str
    kind: str
    program: Program


@dataclass(frozen=True, slots=True)
class Referent:
    """One object referred to: its index in the scene, and its expressions.

    Those of a single draw are of different kinds.
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
    """Picks objects at random and says what can be said of each, in the order of the scene.

    Args:
      rng: decides about everything.
      scene: of the picture.
      vocabulary: nouns of its categories.
      held_back: whether half of the sentences are worded as no other split has it.
      loose: whether people are spoken of as `english.LOOSE_NOUNS` does.
      draws: how often that is done; what was said of an object before is left out.
    """
    found: dict[int, dict[str, Expression]] = {}
    for _ in range(draws):
        for referent in _draw(rng, scene, vocabulary, held_back, loose):
            said = found.setdefault(referent.index, {})
            for expression in referent.expressions:
                said.setdefault(expression.text, expression)
    return [Referent(index, tuple(found[index].values())) for index in sorted(found)]


def _draw(
    rng: np.random.Generator, scene: Scene, vocabulary: Vocabulary, held_back: bool, loose: bool
) -> list[Referent]:
    found: list[Referent] = []
    for index in rng.permutation(len(scene.things)).tolist():
        if not scene.things[index].salient:
            continue
        if expressions := _expressions(rng, scene, index, vocabulary, held_back, loose):
            found.append(Referent(index, expressions))
        if len(found) == REFERENTS:
            break
    return found


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
    found: list[Expression] = []
    kinds = tuple(WEIGHTS)
    order = np.argsort(rng.exponential(size=len(kinds)) / tuple(WEIGHTS.values()))
    for number in order.tolist():
        program = _program(rng, scene, index, vocabulary, kinds[number])
        if program is None:
            continue
        held = held_back and bool(rng.random() < HELD)
        text = verbalise(program, category, rng, held_back=held, loose=loose)
        found.append(Expression(text, kind_of(program) + HELD_BACK * held, program))
        if len(found) == wanted:
            break
    return tuple(found)


def _program(
    rng: np.random.Generator, scene: Scene, index: int, vocabulary: Vocabulary, kind: type
) -> Program | None:
    """A program of one kind that means the object alone."""
    for noun in _nouns(rng, scene, index, vocabulary):
        for program in _candidates(rng, scene, index, vocabulary, kind, noun):
            if execute(program, scene, vocabulary) == {index}:
                return program
    return None


def _nouns(
    rng: np.random.Generator, scene: Scene, index: int, vocabulary: Vocabulary
) -> Iterator[Noun]:
    """Nouns that are right for the object: a word, alone and with its colours."""
    thing = scene.things[index]
    word = _word(rng, vocabulary, thing.category)
    named = [colour for colour, share in thing.clear.items() if share >= CLEAR_SHARE]
    nouns = [Noun(word), *(Noun(word, colour) for colour in named if colour != word)]
    # People name a colour, too, where they need not.
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
    """Programs of one kind that might single out the object.

    A side, place, number or size is only named where there are several. Relations and colours are
    named of a single one, too: "cat on the couch".
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
    found = possible(noun, scene, vocabulary)
    if len(possible(Noun(noun.word), scene, vocabulary)) < 2:
        return
    # Not counted or compared where one may or may not be meant: a truck among cars, or a dull red.
    alike = all(certain(noun, scene.things[i], vocabulary) for i in found)
    rivals = len(found) if alike else 0
    if kind is Side:
        sides = [SIDES[i] for i in rng.permutation(len(SIDES))]
        yield from [Side(noun, "middle")] if alike else ()
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
    for relation in RELATIONS:  # the more telling ones first
        for other in rng.permutation(len(scene.things)).tolist():
            if other == index or scene.things[other].crowd:
                continue
            word = _word(rng, vocabulary, scene.things[other].category)
            if word != noun.word and possible(Noun(word), scene, vocabulary) == [other]:
                yield Relation(noun, relation, Noun(word))
