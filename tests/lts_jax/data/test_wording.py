"""Conversion of sentences for mirrored images, and detection of sentences that survive a crop."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lts_jax.data.wording import mirror, survives_crop
from tfds_refcoco.records.text import tokenize


@pytest.mark.parametrize(
    ("sentence", "mirrored"),
    [
        ("red star", "red star"),
        ("man on the left", "man on the right"),
        ("leftmost cup", "rightmost cup"),
        ("left-most cup", "right most cup"),
        ("Far Right, by the window", "far left by the window"),
        ("guy l", "guy r"),
        ("l/r of him", "r l of him"),
        ("guy on rhs", "guy on lhs"),
        ("second star from the left", "second star from the right"),
        ("2nd zebra from right", "2nd zebra from left"),
        ("3 from top", "3 from top"),
        ("third from the bottom right", "third from the bottom left"),
        ("bottomright oranges", "bottomleft oranges"),
        ("leftguy", "rightguy"),
        ("bright shirt upright on right", "bright shirt upright on left"),
        ("chair on right next to man", "chair on left next to man"),
        ("star to the right of the left cross", "star to the left of the right cross"),
        ("lady facing left, her right hand up", "lady facing right her left hand up"),
        ("leftover pizza", "leftover pizza"),
        ("left light", "right light"),
    ],
)
def test_left_and_right_are_swapped(sentence, mirrored):
    assert mirror(tokenize(sentence)) == mirrored.split()
    assert mirror(tokenize(mirrored)) == tokenize(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "number 23",
        "71 shirt guy",
        "player with the letter r",
        "sign that says stop",
        "slice at 12 o'clock",
        "pizza clockwise from top",
        "second bus",
        "last cow",
        "right next to the tree",
        "man right in front of you",
        "right there",
        "all right guy on left",
        "passenger side door",
        "lefy kid",
        "rigth guy",
        "east tower",
        "tl window",
        "l shaped couch",
        "mann links",
        "左边的人",
        "hombre a la izquierda",
    ],
)
def test_uncertain_sentences_are_not_converted(sentence):
    assert mirror(tokenize(sentence)) is None


@pytest.mark.parametrize(
    "sentence",
    ["red star", "the blue one", "striped ball", "man in white shirt", "person wearing black"],
)
def test_appearances_survive_a_crop(sentence):
    assert survives_crop(tokenize(sentence))


@pytest.mark.parametrize(
    "sentence",
    [
        *("left star", "bottomright cup", "r", "top", "middle one", "second from left", "3rd man"),
        *("biggest star", "tallest", "small cup", "star next to the cross", "cup with a handle"),
        *("man on horse", "front row", "boy behind", "two women", "other dog", "half a face"),
        *("bus that is not red", "person cut off", "rigth guy", "botom cup", "", "左边的人", "33"),
    ],
)
def test_positions_sizes_and_other_objects_do_not_survive_a_crop(sentence):
    assert not survives_crop(tokenize(sentence))


WORDS = ("left", "right", "leftmost", "star", "l", "far", "of", "the", "bottomright", "second")


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(string.ascii_lowercase, max_size=8))))
def test_mirroring_twice_gives_the_original_sentence(words):
    words = tokenize(" ".join(words))
    mirrored = mirror(words)
    assert mirrored is None or mirror(mirrored) in (words, None)
    assert mirrored is None or len(mirrored) == len(words)


def test_sentences_that_people_wrote(test_data):
    """Nearly all RefCOCO sentences can be mirrored, with every left and right swapped."""
    refs = json.loads((test_data / "refcoco_unc" / "testA.json").read_text())
    texts = [tokenize(s["sent"]) for ref in refs for s in ref["sentences"]]
    mirrored = [mirror(words) for words in texts]
    translated = [(a, b) for a, b in zip(texts, mirrored, strict=True) if b is not None]
    assert len(translated) > 0.95 * len(texts) > 5000
    for a, b in translated:
        for one, other in (("left", "right"), ("right", "left")):
            assert [i for i, w in enumerate(a) if w == one] == [
                i for i, w in enumerate(b) if w == other
            ]
    safe = [words for words in texts if survives_crop(words)]
    assert 0.15 * len(texts) < len(safe) < 0.4 * len(texts)
    vocabulary = {word for words in safe for word in words}
    sides = {"left", "right", "top", "bottom", "behind", "front", "second", "next", "on"}
    assert not vocabulary & sides
