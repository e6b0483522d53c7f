"""Reads the words of a file of word vectors in order; published files sort them by frequency."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lts_jax.errors import ConfigError
from lts_jax.pretrained.archives import open_text
from tfds_refcoco.records.text import tokenize

_MAX_LINE = 1 << 16  # bytes


def first_words(path: Path, size: int, most: int) -> list[str]:
    """Returns the first words that can occur in a tokenized sentence, without duplicates.

    Other words, such as capitalized ones, are skipped.

    Args:
      path: see `lts_jax.pretrained.glove.read_vectors`.
      size: dimension of a vector.
      most: maximum number of words.

    Raises:
      ConfigError: the file is missing or damaged.
    """
    words: dict[str, None] = {}
    try:
        for word in _words(path, size):
            if tokenize(word) == [word]:
                words[word] = None
            if len(words) == most:
                break
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    except ConfigError:
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        raise ConfigError(f"{path}: cannot read words ({error}): download it again") from error
    return list(words)


def with_first_words(known: Sequence[str], path: str, size: int, most: int) -> list[str]:
    """Returns known words followed by the first words of a file; see `first_words`."""
    others = first_words(Path(path), size, most) if most else []
    return list(dict.fromkeys([*known, *others]))


def _words(path: Path, size: int) -> Iterator[str]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            yield from map(str, arrays["words"].tolist())
        return
    with open_text(path, size) as text:
        while line := text.lines.readline(_MAX_LINE):
            yield line.rsplit(b" ", size)[0].decode(errors="replace")
