"""Word vocabulary."""

import collections
from collections.abc import Iterable, Sequence

import numpy as np

from tfds_refcoco.records.text import tokenize

PAD = 0
UNKNOWN = 1


class Vocabulary:
    """Maps words to ids; 0 is padding and 1 is the unknown word.

    Attributes:
      words: the words in the order of their ids, which start at 2.
      pad: id of padding.
      unknown: id of the unknown word.
      mask: id that replaces masked words.
      first_id: id of the first word.
    """

    pad = PAD
    unknown = UNKNOWN
    mask = UNKNOWN
    first_id = 2

    def __init__(self, words: Sequence[str]):
        if len(set(words)) != len(words):
            raise ValueError("vocabulary: contains a word twice; remove the duplicate")
        self.words = tuple(words)
        self._ids = {word: i for i, word in enumerate(self.words, start=2)}

    @classmethod
    def build(cls, sentences: Iterable[str], min_count: int = 1) -> "Vocabulary":
        """Builds a vocabulary of words that occur `min_count` times or more, by frequency."""
        kept = [(-n, word) for word, n in _count(sentences).items() if n >= min_count]
        return cls([word for _, word in sorted(kept)])

    def __len__(self) -> int:
        return len(self.words) + 2

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def encode(self, sentence: str | Sequence[str], max_words: int) -> tuple[np.ndarray, int]:
        """Returns ids int32 `[max_words]` and their number, at least 1.

        Args:
          sentence: a text, or its words if already tokenized. An empty sentence is encoded as one
            unknown word.
          max_words: maximum length; the rest of the sentence is cut.
        """
        words = tokenize(sentence) if isinstance(sentence, str) else sentence
        ids = [self._ids.get(word, UNKNOWN) for word in words[:max_words]] or [UNKNOWN]
        padded = np.full(max_words, PAD, np.int32)
        padded[: len(ids)] = ids
        return padded, len(ids)

    def places(self, length: int) -> slice:
        """Returns the positions of words in a sentence of `length` ids."""
        return slice(0, length)

    def count_read(self, words: Sequence[str], max_words: int) -> int:
        """Returns the number of words of a sentence that `encode` keeps."""
        return min(len(words), max_words)

    def coverage(self, sentences: Iterable[str]) -> dict[str, int]:
        """Counts all `words` and the `unknown` ones."""
        counts = _count(sentences)
        unknown = sum(n for word, n in counts.items() if word not in self._ids)
        return {"words": counts.total(), "unknown": unknown}


def _count(sentences: Iterable[str]) -> "collections.Counter[str]":
    """Counts words; tokenizes all sentences at once, which is several times faster."""
    return collections.Counter(tokenize("\n".join(sentences)))
