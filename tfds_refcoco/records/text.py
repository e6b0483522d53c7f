"""The words of a sentence: what vocabularies, statistics and exported models count."""

CLEANED = {**dict.fromkeys(".,'!?\"()*#:;", ""), "-": " ", "/": " "}
_CLEAN = str.maketrans(CLEANED)


def tokenize(sentence: str) -> list[str]:
    """Splits a sentence into lower-case words without punctuation.

    Args:
      sentence: any text, such as "Woman's hat (left-most)".

    Returns:
      The words, such as ["womans", "hat", "left", "most"]: `CLEANED` says which characters are
      removed and which separate words. Empty if the sentence has no other character.
    """
    return sentence.lower().translate(_CLEAN).split()
