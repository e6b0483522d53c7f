"""Tokenization for vocabularies, statistics and exported models; names of sentence kinds."""

import re
import unicodedata

# Typographic signs are treated like ASCII ones: quotes are removed, dashes separate words.
_REMOVED = ".,'!?\"()*#:;" + "‘’‚‛′ʼ´“”„‟″«»‹›"  # noqa: RUF001
_REMOVED += "¿¡。、「」『』《》〈〉【】〔〕・" + "\u00ad\u2060\ufeff"  # noqa: RUF001
_BLANKS = "-/" + "‐‑‒–—―−⁃⁄" + "\u200b"  # noqa: RUF001
CLEANED = {**dict.fromkeys(_REMOVED, ""), **dict.fromkeys(_BLANKS, " ")}
_CLEAN = str.maketrans(CLEANED)

# Unicode blocks of scripts without spaces between words: Thai and Lao, Burmese, Khmer, kana, and
# the ideographs of Chinese and Japanese.
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
    """Returns a pattern for a character of these scripts and its combining marks."""
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

    Text is normalized to Unicode NFKC, which replaces full-width and decomposed letters by the
    usual ones. Each character of a script without spaces is a word; see `_BLOCKS`.

    Args:
      sentence: any text, such as "Woman's hat (left-most)".

    Returns:
      The words, such as ["womans", "hat", "left", "most"]. `CLEANED` lists the characters that are
      removed or separate words. Empty if the sentence has no other character.
    """
    if sentence.isascii():  # the common case, in which NFKC has no effect
        return sentence.lower().translate(_CLEAN).split()
    text = unicodedata.normalize("NFKC", sentence.translate(_CLEAN)).lower().translate(_CLEAN)
    return _APART.sub(r" \g<0> ", unicodedata.normalize("NFKC", text)).split()


def kind_name(kind: str) -> str:
    """Returns a sentence's kind without the specific word.

    Args:
      kind: a record's kind, such as "relation: next to" or "relation: next to, new wording".

    Returns:
      The kind, such as "relation" or "relation, new wording".
    """
    return re.sub(r": [^,]*", "", kind)
