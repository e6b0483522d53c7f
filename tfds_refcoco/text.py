"""The words of a sentence."""

CLEANED = {**dict.fromkeys(".,'!?\"()*#:;", ""), "-": " ", "/": " "}
_CLEAN = str.maketrans(CLEANED)


def tokenize(sentence: str) -> list[str]:
    """Lower-cases, drops punctuation, turns `-` and `/` into spaces, and splits on blanks."""
    return sentence.lower().translate(_CLEAN).split()
