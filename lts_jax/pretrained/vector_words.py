"""The words of a file of word vectors, in its order; published files begin with frequent ones."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lts_jax.errors import ConfigError
from lts_jax.pretrained.archives import open_text
from tfds_refcoco.records.text import tokenize

_MAX_LINE = 1 << 16  # bytes


def first_words(path: Path, size: int, most: int) -> list[str]:
    """Returns the first words that a sentence can have, each once.

    What no tokenized sentence holds, such as a word with capitals, is left out.

    Args:
      path: as of `lts_jax.pretrained.glove.read_vectors`.
      size: numbers of a vector.
      most: of the words to return.

    Raises:
      ConfigError: the file is missing or damaged.
    """
    found: dict[str, None] = {}
    try:
        for word in _words(path, size):
            if tokenize(word) == [word]:
                found[word] = None
            if len(found) == most:
                break
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    except ConfigError:
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        raise ConfigError(f"{path}: its words cannot be read ({error}): get it again") from error
    return list(found)


def with_first_words(known: Sequence[str], path: str, size: int, most: int) -> list[str]:
    """Returns words and after them others, the first ones of a file; see `first_words`."""
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
