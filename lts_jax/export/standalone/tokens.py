"""From a sentence to the ids of its words."""

import re
import unicodedata
from typing import Any


def words_of(sentence: str, spec: dict[str, Any]) -> list[str]:
    """Splits a sentence into words, none if it has no other characters than punctuation."""
    table, form = str.maketrans(spec["replace"]), spec["normalize"]
    text = unicodedata.normalize(form, sentence.translate(table)).lower().translate(table)
    return re.sub(spec["apart"], r" \g<0> ", unicodedata.normalize(form, text)).split()


def encode(sentence: str, ids: dict[str, int], spec: dict[str, Any]) -> list[int]:
    """Returns the ids of the words that are read, one at least."""
    found = words_of(sentence, spec) or [""]
    return [ids.get(word, spec["unknown_id"]) for word in found[: spec["max_words"]]]
