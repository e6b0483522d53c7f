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
