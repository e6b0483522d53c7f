"""BERT's word piece vocabulary."""

import functools
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from lts_jax.data.vocabulary import Vocabulary
from tfds_refcoco.records.text import tokenize

PAD, UNKNOWN, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


class WordPieces:
    """Maps BERT's word pieces to ids, deterministically.

    Attributes:
      words: the pieces in the order of their ids, which start at 0.
      pad: id of padding.
      unknown: id of the unknown piece.
      mask: id that replaces masked pieces: [MASK] if in the vocabulary, else the unknown piece.
      first_id: id of the first piece.
    """

    first_id = 0

    def __init__(self, words: Sequence[str]):
        if len(set(words)) != len(words):
            raise ValueError("vocabulary: contains a piece twice; remove the duplicate")
        self.words = tuple(words)
        ids = {word: i for i, word in enumerate(self.words)}
        if missing := [name for name in (PAD, UNKNOWN, CLS, SEP) if name not in ids]:
            raise ValueError(
                f"vocabulary: {', '.join(missing)} missing; use the vocab.txt of a BERT model"
            )
        self.pad, self.unknown, self._cls, self._sep = (
            ids[name] for name in (PAD, UNKNOWN, CLS, SEP)
        )
        self.mask = ids.get("[MASK]", self.unknown)
        self._tokenizer = self._make_tokenizer()

    @classmethod
    def build(cls, sentences: Iterable[str], min_count: int = 1) -> "WordPieces":
        """Builds a vocabulary for a network without pretrained weights.

        The pieces are words that occur `min_count` times or more, and characters for all others.
        """
        sentences = list(sentences)
        words = Vocabulary.build(sentences, min_count).words
        characters = sorted(set("".join(Vocabulary.build(sentences).words)))
        pieces = [*words, *characters, *(f"##{c}" for c in characters)]
        return cls([PAD, UNKNOWN, CLS, SEP, *dict.fromkeys(pieces)])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return self.unknown not in self._ids(word)

    def encode(self, sentence: str | Sequence[str], max_words: int) -> tuple[np.ndarray, int]:
        """Returns ids int32 `[max_words]`, from [CLS] to [SEP], and their number.

        Args:
          sentence: a text, or its words if already tokenized; may be empty.
          max_words: maximum number of pieces, including [CLS] and [SEP]; the rest is cut.
        """
        words = tokenize(sentence) if isinstance(sentence, str) else sentence
        ids = self._ids(" ".join(words))[: max_words - 2]
        ids = (self._cls, *ids, self._sep)
        padded = np.full(max_words, self.pad, np.int32)
        padded[: len(ids)] = ids
        return padded, len(ids)

    def places(self, length: int) -> slice:
        """Returns the positions of pieces in a sentence, between [CLS] and [SEP]."""
        return slice(1, length - 1)

    def count_read(self, words: Sequence[str], max_words: int) -> int:
        """Returns the number of words of a sentence that `encode` keeps, at least partially."""
        ends = np.cumsum([len(self._ids(word)) for word in words[:max_words]])
        starts = ends - [len(self._ids(word)) for word in words[:max_words]]
        return int((starts < max_words - 2).sum())

    def coverage(self, sentences: Iterable[str]) -> dict[str, int]:
        """Counts all `words` (here: pieces) and the `unknown` ones."""
        pieces = unknown = 0
        for sentence in sentences:
            ids = self._ids(" ".join(tokenize(sentence)))
            pieces += len(ids)
            unknown += ids.count(self.unknown)
        return {"words": pieces, "unknown": unknown}

    def to_json(self, max_words: int) -> str:
        """Returns the tokenizer as JSON for `tokenizers.Tokenizer.from_str`."""
        tokenizer = self._make_tokenizer()
        tokenizer.enable_truncation(max_words)
        text: str = tokenizer.to_str()
        return text

    def _ids(self, text: str) -> tuple[int, ...]:
        return _encode(self._tokenizer, text)

    def _make_tokenizer(self) -> tokenizers.Tokenizer:
        ids = {word: i for i, word in enumerate(self.words)}
        tokenizer = tokenizers.Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN))
        special = {word for word in self.words if word.startswith("[") and word.endswith("]")}
        lower = all(word == word.lower() for word in self.words if word not in special)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.BertProcessing((SEP, ids[SEP]), (CLS, ids[CLS]))
        return tokenizer


@functools.lru_cache(maxsize=1 << 16)
def _encode(tokenizer: tokenizers.Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)
