"""Converts sentences to token ids."""

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any


def words_of(sentence: str, spec: dict[str, Any]) -> list[str]:
    """Splits a sentence into words; the list may be empty."""
    table, form = str.maketrans(spec["replace"]), spec["normalize"]
    text = unicodedata.normalize(form, sentence.translate(table)).lower().translate(table)
    return re.sub(spec["apart"], r" \g<0> ", unicodedata.normalize(form, text)).split()


def reader(folder: Path, spec: dict[str, Any]) -> Callable[[str], list[int]]:
    """Returns a function that converts a sentence to ids of words or of BERT's word pieces."""
    if (folder / "tokenizer.json").exists():
        import tokenizers

        pieces = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        return lambda sentence: list(pieces.encode(" ".join(words_of(sentence, spec))).ids)
    words = json.loads((folder / "vocabulary.json").read_bytes())
    ids = {word: i for i, word in enumerate(words, start=spec["first_word_id"])}
    return lambda sentence: encode(sentence, ids, spec)


def encode(sentence: str, ids: dict[str, int], spec: dict[str, Any]) -> list[int]:
    """Returns the ids of the first `max_words` words; at least one id."""
    words = words_of(sentence, spec) or [""]
    return [ids.get(word, spec["unknown_id"]) for word in words[: spec["max_words"]]]
