"""Groups sentences by kind of expression: as recorded by the dataset, or from their words."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from tfds_refcoco.records.text import kind_name, tokenize

NONE = "none of these"

_SIDES = {
    "left": "leftmost|left most|far left|left",
    "right": "rightmost|right most|far right|right",
    "top": "topmost|top most|uppermost|highest|upper|top",
    "bottom": "bottommost|bottom most|lowest|lower|bottom",
    "middle": "middle|center|centre|central",
}
_RELATIONS = {  # in this order: matched words are not matched again
    "left of": "left of",
    "right of": "right of",
    "in front of": "in front of|front of",
    "behind": "behind|in back of",
    "next to": "(?:right )?next to|(?:right )?beside|near|(?:right )?by|close to|closest to"
    "|nearest|alongside|adjacent to",
    "above": "above|over|on top of|higher than",
    "below": "below|under|underneath|beneath|lower than",
    "between": "between",
    "on": r"on(?! (?:the )?(?:far |very |our |your |my )?(?:left|right|top|bottom|side|end|edge"
    r"|corner|middle|center)\b)",
    "holding": "holding|carrying",
    "wearing": "wearing",
    "with": "with",
}
_ORDINALS = {
    "first": "first|1st",
    "second": "second|2nd",
    "third": "third|3rd",
    "fourth": "fourth|4th",
    "fifth": "fifth|5th",
    "last": "last",
}
_SIZES = {
    "biggest": "big|bigger|biggest|large|larger|largest|huge|tall|taller|tallest",
    "smallest": "small|smaller|smallest|little|littlest|tiny|tiniest|shorter|shortest",
}
_COLOURS = (
    "red|orange|yellow|green|blue|purple|violet|pink|brown|black|white|gray|grey|tan|beige|gold"
    "|golden|silver|maroon|teal|turquoise|blond|blonde"
)


def by_words(sentence: str) -> list[str]:
    """Returns the kinds of a sentence from its words, such as ["ordinal: second", "colour"].

    The names are those of generated expressions. A sentence has any number of kinds. A word that
    is part of a relation, corner or ordinal is not a side: "left of the tree", "top left", "second
    from the left".
    """
    rest = " ".join(tokenize(sentence))
    kinds = []

    def take(kind: str, pattern: str) -> bool:
        nonlocal rest
        rest, number = re.subn(rf"\b(?:{pattern})(?!\w)", "|", rest)
        if number:
            kinds.append(kind)
        return bool(number)

    for word, pattern in _RELATIONS.items():
        take(f"relation: {word}", pattern)
    for word, pattern in _ORDINALS.items():
        if take(f"ordinal: {word}", pattern):
            rest = re.sub(r"\bfrom (?:the )?(?:left|right|top|bottom)\b", "|", rest)
    for vertical, words in (("top", "(?:top|upper)"), ("bottom", "(?:bottom|lower)")):
        for horizontal in ("left", "right"):
            pattern = f"{words} {horizontal}|{horizontal} {words}"
            take(f"corner: {vertical} {horizontal}", pattern)
    for word, pattern in _SIDES.items():
        take(f"side: {word}", pattern)
    for word, pattern in _SIZES.items():
        take(f"size: {word}", pattern)
    take("colour", _COLOURS)
    return kinds


def groups(texts: Sequence[str], recorded: Sequence[str]) -> dict[str, np.ndarray]:
    """Groups N sentences by kind.

    Args:
      texts: the sentences.
      recorded: the kind of each sentence in the dataset, or "".

    Returns:
      A mask bool `[N]` for each kind: for the recorded kinds, or if none is recorded, for the kinds
      from the words and `NONE`. A kind with a word, such as "relation: on", also counts for the
      general kind, "relation".
    """
    known = any(recorded)
    kinds = [[kind] if kind else [] for kind in recorded] if known else list(map(by_words, texts))
    rows_by_kind: dict[str, np.ndarray] = {}
    for row, of_row in enumerate(kinds):
        names = {name for kind in of_row for name in (kind_name(kind), kind)}
        for name in names or (set() if known else {NONE}):
            rows_by_kind.setdefault(name, np.zeros(len(texts), bool))[row] = True
    return {name: rows_by_kind[name] for name in in_order(rows_by_kind)}


def in_order(names: Iterable[str]) -> list[str]:
    """Sorts kinds: a general kind before its kinds with a word, and `NONE` last."""
    return sorted(names, key=lambda name: (name == NONE, kind_name(name), name))
