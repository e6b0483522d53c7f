"""Words of a sentence and their ids."""

import collections
from collections.abc import Iterable, Sequence

import numpy as np

from tfds_refcoco.records.text import tokenize

PAD = 0
UNKNOWN = 1


class Vocabulary:
    """Words with ids; 0 is padding and 1 the unknown word.

    Attributes:
      words: the known words in the order of their ids, which begin at 2.
      pad: id of padding.
      unknown: id of the unknown word.
      mask: id of a word that is hidden.
      first_id: of the words.
    """

    pad = PAD
    unknown = UNKNOWN
    mask = UNKNOWN
    first_id = 2

    def __init__(self, words: Sequence[str]):
        if len(set(words)) != len(words):
            raise ValueError("vocabulary: a word is listed twice; each needs one id")
        self.words = tuple(words)
        self._ids = {word: i for i, word in enumerate(self.words, start=2)}

    @classmethod
    def build(cls, sentences: Iterable[str], min_count: int = 1) -> "Vocabulary":
        """Takes every word that occurs `min_count` times, the most frequent first."""
        kept = [(-n, word) for word, n in _count(sentences).items() if n >= min_count]
        return cls([word for _, word in sorted(kept)])

    def __len__(self) -> int:
        return len(self.words) + 2

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def encode(self, sentence: str | Sequence[str], max_words: int) -> tuple[np.ndarray, int]:
        """Returns ids int32 `[max_words]` and their number, at least 1.

        Args:
          sentence: a text, or its words if it was tokenized before. Without any word it becomes a
            single unknown.
          max_words: longer sentences keep their first so many words.
        """
        words = tokenize(sentence) if isinstance(sentence, str) else sentence
        ids = [self._ids.get(word, UNKNOWN) for word in words[:max_words]] or [UNKNOWN]
        padded = np.full(max_words, PAD, np.int32)
        padded[: len(ids)] = ids
        return padded, len(ids)

    def places(self, length: int) -> slice:
        """Where words are in a sentence of so many ids."""
        return slice(0, length)

    def count_read(self, words: Sequence[str], max_words: int) -> int:
        """How many words of a sentence are read."""
        return min(len(words), max_words)

    def coverage(self, sentences: Iterable[str]) -> dict[str, int]:
        """Counts `words`, and the `unknown` ones among them."""
        counts = _count(sentences)
        unknown = sum(n for word, n in counts.items() if word not in self._ids)
        return {"words": counts.total(), "unknown": unknown}


def _count(sentences: Iterable[str]) -> "collections.Counter[str]":
    """Counts words. All at once is several times faster, and the blank keeps sentences apart."""
    return collections.Counter(tokenize("\n".join(sentences)))
