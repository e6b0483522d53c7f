"""Semantics of programs in handmade scenes; boxes are fractions of a square picture."""

import numpy as np
import pytest

from tfds_refcoco.expressions import colours
from tfds_refcoco.expressions.language import (
    Category,
    Colour,
    Noun,
    Ordinal,
    Place,
    Relation,
    Side,
    Size,
    certain,
    execute,
)
from tfds_refcoco.expressions.scene import Scene, Thing
from tfds_refcoco.expressions.words import make_vocabulary

VOCABULARY = make_vocabulary(["cup", "car", "truck", "dog", "person", "umbrella", "couch"])
CUP = Noun("cup")


def thing(category, x0, y0, x1, y1, **more):
    return Thing(0, category, (x0, y0, x1, y1), (x1 - x0) * (y1 - y0), **more)


def meant(program, *things, contacts=()):
    return execute(program, Scene(100, 100, things, frozenset(contacts)), VOCABULARY)


LEFT, MIDDLE, RIGHT = (thing("cup", x, 0.4, x + 0.1, 0.6) for x in (0.1, 0.43, 0.8))


@pytest.mark.parametrize(
    ("program", "things", "expected"),
    [
        (Category(CUP), [LEFT], {0}),
        (Category(CUP), [LEFT, RIGHT], {0, 1}),
        (Category(CUP), [LEFT, thing("cup", 0.5, 0.5, 0.51, 0.51, salient=False)], {0, 1}),
        (Category(Noun("car")), [thing("car", 0, 0, 1, 1), thing("truck", 0, 0, 1, 1)], {0, 1}),
        (Side(CUP, "left"), [LEFT, RIGHT], {0}),
        (Side(CUP, "right"), [LEFT, RIGHT], {1}),
        (Side(CUP, "left"), [LEFT, thing("cup", 0.16, 0.4, 0.26, 0.6)], {0, 1}),  # too near
        # "on the left" is ambiguous for two objects on the left; "leftmost" is the first one.
        (Side(CUP, "left"), [LEFT, thing("cup", 0.35, 0.4, 0.45, 0.6)], {0, 1}),
        (Side(CUP, "left", farthest=True), [LEFT, thing("cup", 0.35, 0.4, 0.45, 0.6)], {0}),
        (Side(CUP, "right"), [LEFT, thing("cup", 0.3, 0.4, 0.4, 0.6)], set()),  # both on the left
        # A member of a crowd that extends to the left may be farther left.
        (Side(CUP, "left"), [LEFT, thing("cup", 0.05, 0.1, 0.9, 0.9, crowd=True)], {0, 1}),
        (Side(CUP, "left"), [LEFT, thing("cup", 0.6, 0.1, 0.9, 0.9, crowd=True)], {0}),
        (Side(CUP, "top"), [thing("cup", 0.1, 0.2, 0.2, 0.4), LEFT], {0}),
        (Side(CUP, "top"), [thing("cup", 0.1, 0.2, 0.2, 0.5), LEFT], {0, 1}),  # side by side
        (Side(CUP, "middle"), [LEFT, MIDDLE, RIGHT], {1}),
        (Side(CUP, "middle"), [LEFT, RIGHT], set()),
        (Ordinal(CUP, 2, "left"), [LEFT, MIDDLE, RIGHT], {1}),
        (Ordinal(CUP, 1, "right"), [LEFT, MIDDLE, RIGHT], {2}),
        (Ordinal(CUP, 3, "left"), [LEFT, MIDDLE, RIGHT], set()),  # the first from the right
        (
            Ordinal(CUP, 2, "left"),
            [LEFT, MIDDLE, thing("cup", 0.8, 0.7, 0.9, 0.9)],
            set(),
        ),  # not a row
        (Size(CUP, True, True), [LEFT, thing("cup", 0.5, 0.2, 0.8, 0.8)], {1}),
        (Size(CUP, False, True), [LEFT, thing("cup", 0.5, 0.2, 0.8, 0.8)], {0}),
        (Size(CUP, True, True), [LEFT, thing("cup", 0.5, 0.4, 0.61, 0.62)], {0, 1}),
        (Size(CUP, True, False), [LEFT, thing("cup", 0.5, 0.2, 0.8, 0.8)], set()),  # only two
        (Size(CUP, False, True), [thing("cup", 0, 0.4, 0.1, 0.6), MIDDLE], {0, 1}),
        (Size(CUP, False, True), [thing("cup", 0, 0.4, 0.05, 0.5), MIDDLE], set()),  # truncated
        (Place(CUP, "top left"), [thing("cup", 0.05, 0.05, 0.2, 0.2), RIGHT], {0}),
        (Place(CUP, "top left"), [thing("cup", 0.05, 0.05, 0.2, 0.2), LEFT], {0}),
        (Place(CUP, "top left"), [LEFT, RIGHT], set()),
        (Place(CUP, "centre"), [LEFT, MIDDLE], {1}),
        (Place(CUP, "centre"), [MIDDLE, thing("cup", 0.3, 0.3, 0.9, 0.9)], {0, 1}),
    ],
)
def test_programs(program, things, expected):
    assert meant(program, *things) == expected


DOG = thing("dog", 0.3, 0.3, 0.45, 0.62)


@pytest.mark.parametrize(
    ("relation", "things", "expected"),
    [
        ("next to", [thing("cup", 0.2, 0.4, 0.29, 0.6), DOG, RIGHT], {0}),
        ("next to", [thing("cup", 0.2, 0.4, 0.29, 0.6), DOG, MIDDLE], {0, 2}),
        (
            "next to",
            [thing("cup", 0.2, 0.31, 0.29, 0.4), DOG, RIGHT],
            set(),
        ),  # far in the background
        ("left of", [LEFT, DOG, RIGHT], {0}),
        ("right of", [LEFT, DOG, MIDDLE, RIGHT], {2, 3}),
        ("left of", [LEFT, DOG, thing("dog", 0.7, 0.3, 0.8, 0.6)], set()),  # which dog?
        # On the ground, objects that are higher in the picture are usually farther away.
        ("above", [thing("cup", 0.3, 0.1, 0.4, 0.28), DOG], set()),
    ],
)
def test_relations(relation, things, expected):
    assert meant(Relation(CUP, relation, Noun("dog")), *things) == expected


def test_contact():
    person, other = thing("person", 0.1, 0.2, 0.3, 0.9), thing("person", 0.6, 0.2, 0.8, 0.9)
    umbrella = thing("umbrella", 0.05, 0.05, 0.35, 0.25)
    program = Relation(Noun("person"), "with", Noun("umbrella"))
    assert meant(program, person, other, umbrella, contacts=[(0, 2)]) == {0}
    assert meant(program, person, other, umbrella, contacts=[(0, 2), (1, 2)]) == {0, 1}
    assert meant(program, person, other, umbrella) == set()
    cat = thing("dog", 0.3, 0.4, 0.5, 0.6)
    couch = thing("couch", 0.1, 0.4, 0.9, 0.9)
    assert meant(Relation(Noun("dog"), "on", Noun("couch")), cat, couch, contacts=[(0, 1)]) == {0}
    below = thing("dog", 0.3, 0.6, 0.5, 0.95)  # in front of it
    assert not meant(Relation(Noun("dog"), "on", Noun("couch")), below, couch, contacts=[(0, 1)])


def test_colours():
    red = thing("cup", 0.1, 0.4, 0.2, 0.6, clear={"red": 0.8}, possible={"red": 0.9})
    dull = thing("cup", 0.5, 0.4, 0.6, 0.6, clear={"red": 0.1}, possible={"red": 0.4})
    blue = thing("cup", 0.7, 0.4, 0.8, 0.6, clear={"red": 0.0}, possible={"red": 0.1})
    noun = Noun("cup", "red")
    assert meant(Colour(noun), red, blue) == {0}
    assert meant(Colour(noun), red, dull) == {0, 1}
    assert [certain(noun, cup, VOCABULARY) for cup in (red, dull, blue)] == [True, False, False]
    assert meant(Colour(noun), red, LEFT) == {0, 1}  # without known colours


def test_pixels_of_colours():
    names = {
        "red": (200, 20, 20),
        "blue": (30, 60, 190),
        "yellow": (240, 225, 40),
        "green": (30, 140, 40),
        "white": (245, 245, 245),
        "black": (10, 10, 10),
    }
    pixels = np.array([[rgb] * 4 for rgb in (*names.values(), (128, 128, 128))], np.uint8)
    of_colour = colours.maps(pixels, colours.CLEAR)
    for row, name in enumerate(names):
        mask = np.zeros(pixels.shape[:2], bool)
        mask[row] = mask[len(names), :2] = True  # two of six pixels are gray
        fractions = colours.shares(of_colour, mask)
        assert fractions.pop(name) == pytest.approx(4 / 6) and not any(fractions.values())
    assert not colours.is_gray(pixels)
    assert colours.is_gray(np.repeat(pixels[..., :1], 3, axis=-1))
    assert set(colours.CLEAR) == set(colours.POSSIBLE)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (50, 50, 3)).astype(np.uint8)
    clear, possible = colours.maps(drawn, colours.CLEAR), colours.maps(drawn, colours.POSSIBLE)
    assert not (clear & ~possible).any()  # clear colours are also possible
