"""Word vectors of a vocabulary: cache, coverage statistics and the embedding table."""

import collections
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lts_jax.data.vocabulary import Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.io.files import cache_folder, write_arrays
from lts_jax.pretrained.glove import Vectors, read_vectors
from tfds_refcoco.records.text import tokenize

_logger = logging.getLogger(__name__)


def default_cache() -> Path | None:
    """Returns the cache folder: `lts_jax/vectors` in `$XDG_CACHE_HOME` or `~/.cache`."""
    folder = cache_folder()
    return folder and folder / "vectors"


def cached_vectors(
    path: Path, words: Sequence[str], size: int, cache: Path | None, *, progress: bool = True
) -> Vectors:
    """Like `lts_jax.pretrained.glove.read_vectors`, but cached in a small file.

    The cache key is the hash of the vocabulary and the name, size and time of the file of vectors.
    A cache that cannot be written is logged as a warning.

    Args:
      path: path of the file of vectors.
      words: the words to look up.
      size: dimension of a vector.
      cache: the cache folder; None disables caching.
      progress: whether to show a progress bar.

    Raises:
      ConfigError: see `read_vectors`.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    if cache is None:
        return read_vectors(path, words, size, progress=progress)
    of_words = hashlib.sha256("\n".join(words).encode()).hexdigest()
    name = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{size}|{of_words}"
    entry = cache / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.npz"
    try:
        with np.load(entry, allow_pickle=False) as saved:
            odd = dict(zip(saved["odd"].tolist(), saved["counts"].tolist(), strict=True))
            vectors = saved["vectors"]
            known, lines, sha256 = saved["found"], int(saved["lines"]), str(saved["sha256"])
            origin = json.loads(str(saved["origin"]))
            if known.shape == (len(words),) and vectors.shape == (known.sum(), size):
                return Vectors(known, vectors, lines, odd, sha256, origin)
    except Exception:  # not cached yet, or damaged, which can raise nearly anything
        pass
    result = read_vectors(path, words, size, progress=progress)
    arrays = {
        "found": result.known,
        "vectors": result.vectors,
        "lines": np.array(result.lines),
        "odd": np.array(list(result.odd), np.str_),
        "counts": np.array(list(result.odd.values()), np.int64),
        "sha256": np.array(result.sha256),
        "origin": np.array(json.dumps(result.origin)),
    }
    try:
        write_arrays(entry, arrays)
    except OSError as error:
        _logger.warning("word vectors are not cached: cannot write %s (%s)", cache, error.strerror)
    return result


def write_vectors(path: Path, vectors: Vectors, words: Sequence[str], source: Any) -> None:
    """Writes the vectors of a vocabulary as an .npz that `read_vectors` reads.

    Args:
      path: path of the file.
      vectors: vectors of `words`.
      words: the words that were looked up.
      source: source of the vectors; any JSON-serializable value.
    """
    arrays = {
        "words": np.array(words)[vectors.known],
        "vectors": vectors.vectors,
        "source": np.array(json.dumps(source)),
    }
    write_arrays(path, arrays)


def describe_vectors(path: Path, vectors: Vectors) -> dict[str, Any]:
    """Describes a file of vectors for a run's metadata."""
    described = {
        "file": str(path),
        "sha256": vectors.sha256,
        "bytes": path.stat().st_size,
        "lines": vectors.lines,
        "odd_lines": vectors.odd,
    }
    return described | ({"origin": vectors.origin} if vectors.origin else {})


def describe_odd_lines(vectors: Vectors) -> str:
    """Describes how many lines of the file were skipped and why; empty if none were."""
    reasons = ", ".join(f"{n} with {what}" for what, n in vectors.odd.items())
    return f"skipped of {vectors.lines} lines: {reasons}" if reasons else ""


def embedding_table(vectors: Vectors, seed: int) -> NDArray[np.float32]:
    """Returns the embedding table by word id, float32 `[V + 2, D]`, for V words.

    Rows of padding, the unknown word and words without a vector are drawn from a normal
    distribution with the mean and variance of each coordinate over the known vectors.
    """
    mean, deviation = vectors.vectors.mean(axis=0), vectors.vectors.std(axis=0)
    rng = np.random.default_rng(seed)
    table = rng.normal(mean, deviation, (len(vectors.known) + 2, len(mean))).astype(np.float32)
    table[2:][vectors.known] = vectors.vectors
    return table


def coverage(vectors: Vectors, vocabulary: Vocabulary, sentences: Iterable[str]) -> dict[str, int]:
    """Counts the words of sentences, as types and as tokens, and those with a vector."""
    pairs = zip(vocabulary.words, vectors.known, strict=True)
    known = {word for word, has_vector in pairs if has_vector}
    counts = collections.Counter(word for s in sentences for word in tokenize(s))
    return {
        "types": len(counts),
        "types_with_vector": sum(word in known for word in counts),
        "tokens": sum(counts.values()),
        "tokens_with_vector": sum(n for word, n in counts.items() if word in known),
    }


def describe_coverage(counts: dict[str, int]) -> str:
    """Formats the counts of `coverage`."""
    shares = [
        f"{counts[f'{kind}_with_vector']:,} of {counts[kind]:,} {kind} "
        f"({counts[f'{kind}_with_vector'] / max(1, counts[kind]):.2%})"
        for kind in ("types", "tokens")
    ]
    return f"vectors for {shares[0]} and {shares[1]}"
