"""The words of a sentence: what vocabularies, statistics and exported models count; its kind."""

import re
import unicodedata

# Typographic signs are treated as their ASCII twins: quotes are removed, dashes separate words.
_REMOVED = ".,'!?\"()*#:;" + "‘’‚‛′ʼ´“”„‟″«»‹›"  # noqa: RUF001
_REMOVED += "¿¡。、「」『』《》〈〉【】〔〕・" + "\u00ad\u2060\ufeff"  # noqa: RUF001
_BLANKS = "-/" + "‐‑‒–—―−⁃⁄" + "\u200b"  # noqa: RUF001
CLEANED = {**dict.fromkeys(_REMOVED, ""), **dict.fromkeys(_BLANKS, " ")}
_CLEAN = str.maketrans(CLEANED)

# Blocks of scripts that are written without blanks between words: Thai and Lao, Burmese, Khmer,
# kana, and the ideographs of Chinese and Japanese.
_BLOCKS = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3041, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


def _apart() -> str:
    """Returns the pattern of a character of these scripts with the marks that belong to it."""
    block = "".join(f"{chr(first)}-{chr(last)}" for first, last in _BLOCKS)
    marks = "".join(
        chr(code)
        for first, last in _BLOCKS
        if last < 0x3400
        for code in range(first, last + 1)
        if unicodedata.category(chr(code)).startswith("M")
    )
    return f"[{block}][{marks}]*"


APART = _apart()
_APART = re.compile(APART)


def tokenize(sentence: str) -> list[str]:
    """Splits a sentence into lower-case words without punctuation.

    Text is compared in Unicode's compatibility form NFKC, in which full-width and composed letters
    are the usual ones. Each character of a script without blanks is a word, see `_BLOCKS`.

    Args:
      sentence: any text, such as "Woman's hat (left-most)".

    Returns:
      The words, such as ["womans", "hat", "left", "most"]: `CLEANED` says which characters are
      removed and which separate words. Empty if the sentence has no other character.
    """
    if sentence.isascii():  # nearly all are, and the rest changes nothing of them
        return sentence.lower().translate(_CLEAN).split()
    text = unicodedata.normalize("NFKC", sentence.translate(_CLEAN)).lower().translate(_CLEAN)
    return _APART.sub(r" \g<0> ", unicodedata.normalize("NFKC", text)).split()


def kind_name(kind: str) -> str:
    """Returns a sentence's kind without its word.

    Args:
      kind: as in the records, such as "relation: next to" or "relation: next to, new wording".

    Returns:
      Such as "relation" or "relation, new wording".
    """
    return re.sub(r": [^,]*", "", kind)
