# ruff: noqa: RUF001 (tests characters that look similar)
import collections
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lts_jax.data.vocabulary import UNKNOWN, Vocabulary, tokenize


def test_cleaning():
    assert tokenize("The man's T-shirt, #2 (left/right)!?") == [
        "the", "mans", "t", "shirt", "2", "left", "right",
    ]  # fmt: skip
    assert tokenize(" . * ; : \" ' ") == []


@pytest.mark.parametrize(
    ("typographic", "plain"),
    [
        ("man’s hat", "man's hat"),
        ("man´s hat", "man's hat"),
        ("the “left” «one» „there‟", 'the "left" "one" "there"'),
        ("man–left—most‑of −all", "man-left-most-of -all"),
        ("dog…", "dog..."),
        ("ＲＥＤ　ｃｕｐ，（ｌｅｆｔ）１", "red cup,(left)1"),
        ("cafe\u0301", "caf\u00e9"),
        ("soft\u00adhyphen \ufeffmark", "softhyphen mark"),
        ("¿dónde?", "dónde"),
    ],
)
def test_typographic_signs_are_their_ascii_twins(typographic, plain):
    assert tokenize(typographic) == tokenize(plain)


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("左边红色的杯子。", list("左边红色的杯子")),
        ("左边 red 杯子2", ["左", "边", "red", "杯", "子", "2"]),
        ("ネコの左、ｶﾞﾗｽ", ["ネ", "コ", "の", "左", "ガ", "ラ", "ス"]),
        ("แมวสีดำ", ["แ", "ม", "ว", "สี", "ด\u0e4d", "า"]),  # NFKC splits sara am in two
        ("ຫມາ", ["ຫ", "ມ", "າ"]),
        ("왼쪽 컵", ["왼쪽", "컵"]),  # Korean separates words by spaces
        ("القط الأسود", ["القط", "الأسود"]),
    ],
)
def test_scripts_without_spaces_are_split_by_character(sentence, words):
    assert tokenize(sentence) == words


@given(st.text())
def test_the_ascii_fast_path_gives_the_same_result(text):
    """The fast path for ASCII sentences gives the same result as the general path."""
    assert tokenize(text + "é")[-1].endswith("é")
    plain = "".join(c for c in text if c.isascii())
    assert [*tokenize(plain), "é"] == tokenize(plain + " é")


def test_sentences_are_padded_cut_and_never_empty():
    vocabulary = Vocabulary.build(["red star", "red circle"])
    assert vocabulary.words == ("red", "circle", "star")
    assert len(vocabulary) == 5
    ids, length = vocabulary.encode("Red blue star", 5)
    assert (ids.tolist(), length) == ([2, UNKNOWN, 4, 0, 0], 3)
    ids, length = vocabulary.encode("red red red red", 3)
    assert (ids.tolist(), length) == ([2, 2, 2], 3)
    ids, length = vocabulary.encode(" .", 3)
    assert (ids.tolist(), length) == ([UNKNOWN, 0, 0], 1)
    assert vocabulary.coverage(["red blue", "green"]) == {"words": 3, "unknown": 2}


def test_rare_words_are_left_out():
    assert Vocabulary.build(["a a b", "b c"], min_count=2).words == ("a", "b")


@given(st.lists(st.text(st.sampled_from("aAΣ.- \n\u0085İ"))), st.integers(1, 3))
def test_words_are_counted_sentence_by_sentence(sentences, min_count):
    counts = collections.Counter(word for s in sentences for word in tokenize(s))
    kept = [word for word, n in counts.items() if n >= min_count]
    vocabulary = Vocabulary.build(sentences, min_count)
    assert vocabulary.words == tuple(sorted(kept, key=lambda word: (-counts[word], word)))
    unknown = counts.total() - sum(counts[word] for word in kept)
    assert vocabulary.coverage(sentences) == {"words": counts.total(), "unknown": unknown}


def test_words_must_differ():
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["a", "a"])


@given(st.text(), st.integers(1, 20))
def test_any_text_has_an_encoding(text, max_words):
    ids, length = Vocabulary(["a", "the"]).encode(text, max_words)
    assert ids.shape == (max_words,)
    assert 1 <= length <= max_words
    assert (ids[:length] > 0).all() and not ids[length:].any()


def test_lengths_of_refcocos_sentences(test_data):
    longer, total = 0, 0
    for split in ("val", "testA", "testB"):
        path = test_data / "refcoco_unc" / f"{split}.json"
        for ref in json.loads(path.read_text()):
            for sentence in ref["sentences"]:
                longer += len(tokenize(sentence["sent"])) > 15
                total += 1
    assert (longer, total) == (22, 21_586)
