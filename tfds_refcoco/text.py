"""The words of a sentence."""

_CLEAN = str.maketrans({**dict.fromkeys(".,'!?\"()*#:;"), "-": " ", "/": " "})


def tokenize(sentence: str) -> list[str]:
    """Lower-cases, drops punctuation, turns `-` and `/` into spaces, and splits on blanks."""
    return sentence.lower().translate(_CLEAN).split()
