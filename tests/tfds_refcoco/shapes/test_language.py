"""Semantics of programs, in particular of ambiguous expressions."""

import numpy as np
import pytest

from tfds_refcoco.shapes.english import verbalise
from tfds_refcoco.shapes.language import (
    Attribute,
    Location,
    Noun,
    Order,
    Relation,
    Size,
    execute,
)
from tfds_refcoco.shapes.scene import SHAPES, Scene, Thing, outline, polygon_area

ANY = Noun()


def star(x, y, size=20.0, shape="star", colour="red"):
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * size
    return Thing(shape, colour, "solid", square, 0.0, x, y, size, size, size**2)


def scene(*spots):
    """Returns a 100 x 100 scene with an object for each tuple of arguments of `star`."""
    return Scene(100, 100, tuple(star(*spot) for spot in spots))


@pytest.mark.parametrize(
    ("program", "spots", "meant"),
    [
        (Location(ANY, "left"), [(20, 50), (60, 50)], {0}),
        (Location(ANY, "left"), [(20, 50), (26, 80)], {0, 1}),  # almost as far left
        (Location(ANY, "left"), [(70, 50), (90, 50)], set()),  # neither is on the left
        (Location(ANY, "bottom right"), [(80, 80), (30, 80), (80, 20)], {0}),
        (Location(ANY, "bottom right"), [(80, 80), (75, 85)], {0, 1}),
        (
            Location(ANY, "bottom right"),
            [(55, 80), (20, 20)],
            set(),
        ),  # at the bottom, but not clearly right
        (Location(ANY, "middle"), [(50, 50), (10, 50), (90, 50)], {0}),
        (Location(ANY, "middle"), [(50, 45), (50, 55), (90, 50), (10, 50)], {0, 1}),
        (Location(ANY, "middle"), [(40, 50), (80, 60), (90, 50)], set()),  # leftmost object
        (Size(ANY, True), [(20, 50, 20), (60, 50, 30)], {1}),
        (Size(ANY, True), [(20, 50, 26), (60, 50, 30)], {0, 1}),
        (Size(ANY, False), [(20, 50, 20), (60, 50, 30)], {0}),
        (Order(ANY, 2, "left"), [(50, 50), (20, 50), (80, 50)], {0}),
        (Order(ANY, 2, "left"), [(50, 50), (20, 50), (53, 80)], {0, 1, 2}),
        (Order(ANY, 3, "left"), [(50, 50), (20, 50), (80, 50)], set()),  # people say "rightmost"
        (Order(ANY, 3, "top"), [(50, 10), (50, 30), (50, 60), (50, 90)], {2}),
    ],
)
def test_margins(program, spots, meant):
    assert execute(program, scene(*spots)) == meant


ANCHOR = (50, 50, 20, "cross", "blue")


@pytest.mark.parametrize(
    ("relation", "spots", "meant"),
    [
        ("left of", [(20, 50), (80, 50)], {1}),
        ("right of", [(20, 50), (80, 50)], {2}),
        ("above", [(50, 20), (50, 80)], {1}),
        ("below", [(50, 20), (50, 80)], {2}),
        ("left of", [(20, 50), (10, 50)], {1, 2}),
        ("left of", [(20, 80), (80, 50)], set()),  # equally far below and to the left
        ("left of", [(20, 50), (30, 80)], {1, 2}),  # the second one is also possible
        ("next to", [(25, 50), (95, 50)], {1}),
        ("next to", [(25, 50), (80, 50)], {1, 2}),
        ("next to", [(50, 98), (1, 1)], set()),  # not next to any object
    ],
)
def test_relations(relation, spots, meant):
    program = Relation(Noun("star"), relation, Noun("cross"))
    assert execute(program, scene(ANCHOR, *spots)) == meant


def test_an_anchor_must_be_unique():
    both = scene(ANCHOR, (20, 20, 20, "cross", "blue"), (10, 50))
    assert execute(Relation(Noun("star"), "left of", Noun("cross")), both) == set()


def test_attributes_combine():
    mixed = scene((20, 20), (80, 80, 20, "star", "blue"), (20, 80, 20, "heart", "blue"))
    assert execute(Attribute(Noun("star")), mixed) == {0, 1}
    assert execute(Attribute(Noun("star", "blue")), mixed) == {1}
    assert execute(Attribute(Noun("star", "green")), mixed) == set()


def test_english_is_short_and_varied():
    rng = np.random.default_rng(0)
    program = Relation(Noun("star"), "left of", Noun("cross", "blue"))
    texts = {verbalise(program, rng) for _ in range(200)}
    assert {"star left of the blue cross", "star to the left of the blue cross"} <= texts
    texts = {verbalise(Location(Noun("star"), "left"), rng) for _ in range(200)}
    assert {"left star", "star on the left", "leftmost star"} <= texts


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_are_centred_and_of_size_one(shape):
    points = outline(shape)
    np.testing.assert_allclose(points.min(0), -points.max(0), atol=1e-9)
    extent = np.ptp(points, 0).max()
    assert extent * np.sqrt(4 * polygon_area(points) / np.pi) == pytest.approx(1.0)
