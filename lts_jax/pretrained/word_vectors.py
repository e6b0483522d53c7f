"""Word vectors of a vocabulary: kept between runs, counted, and made a table of embeddings."""

import collections
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lts_jax.data.tokenizer import Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.pretrained.glove import READ_ERRORS, Vectors, read_vectors
from lts_jax.writers import write_arrays
from tfds_refcoco.text import tokenize


def cached_vectors(
    path: Path, words: Sequence[str], size: int, cache: Path, *, progress: bool = True
) -> Vectors:
    """As `lts_jax.pretrained.glove.read_vectors`, but the second time from a small file.

    That lies in the folder `cache`, and is found by the vocabulary's hash and by name, size and
    time of the file of vectors.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    of_words = hashlib.sha256("\n".join(words).encode()).hexdigest()
    name = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{size}|{of_words}"
    entry = cache / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"
    try:
        with np.load(entry, allow_pickle=False) as saved:
            odd = dict(zip(saved["odd"].tolist(), saved["counts"].tolist(), strict=True))
            vectors = saved["vectors"]
            found, lines, sha256 = saved["found"], int(saved["lines"]), str(saved["sha256"])
            origin = json.loads(str(saved["origin"]))
            if found.shape == (len(words),) and vectors.shape == (found.sum(), size):
                return Vectors(found, vectors, lines, odd, sha256, origin)
    except READ_ERRORS:
        pass  # not there yet, or damaged: read again
    result = read_vectors(path, words, size, progress=progress)
    arrays = {
        "found": result.found,
        "vectors": result.vectors,
        "lines": np.array(result.lines),
        "odd": np.array(list(result.odd), np.str_),
        "counts": np.array(list(result.odd.values()), np.int64),
        "sha256": np.array(result.sha256),
        "origin": np.array(json.dumps(result.origin)),
    }
    try:
        write_arrays(entry, arrays, shared=True)
    except OSError as error:
        print(f"  the word vectors are not kept: {cache} cannot be written ({error.strerror})")
    return result


def write_vectors(path: Path, vectors: Vectors, words: Sequence[str], source: Any) -> None:
    """Writes the vectors that were found as an .npz, with what says where they are from.

    Args:
      path: of the file.
      vectors: of `words`.
      words: that were looked up.
      source: what JSON can hold.
    """
    found = np.array(words)[vectors.found]
    of_source = np.array(json.dumps(source))
    write_arrays(path, {"words": found, "vectors": vectors.vectors, "source": of_source})


def describe_vectors(path: Path, vectors: Vectors) -> dict[str, Any]:
    """What a run's metadata say of a file of vectors."""
    described = {
        "file": str(path),
        "sha256": vectors.sha256,
        "bytes": path.stat().st_size,
        "lines": vectors.lines,
        "odd_lines": vectors.odd,
    }
    return described | ({"origin": vectors.origin} if vectors.origin else {})


def embedding_table(vectors: Vectors, seed: int) -> np.ndarray:
    """Vectors by id, float32 `[V + 2, D]`, for a vocabulary of V words.

    Words without a vector, padding and the unknown word are drawn from a normal distribution with
    the mean and the variance of each coordinate over the vectors that were found.
    """
    mean, deviation = vectors.vectors.mean(axis=0), vectors.vectors.std(axis=0)
    rng = np.random.default_rng(seed)
    table = rng.normal(mean, deviation, (len(vectors.found) + 2, len(mean))).astype(np.float32)
    table[2:][vectors.found] = vectors.vectors
    return table


def coverage(vectors: Vectors, vocabulary: Vocabulary, sentences: Iterable[str]) -> dict[str, Any]:
    """Counts the words of sentences, as types and as tokens, and those that have a vector."""
    pairs = zip(vocabulary.words, vectors.found, strict=True)
    known = {word for word, found in pairs if found}
    counts = collections.Counter(word for s in sentences for word in tokenize(s))
    return {
        "types": len(counts),
        "types_with_vector": sum(word in known for word in counts),
        "tokens": sum(counts.values()),
        "tokens_with_vector": sum(n for word, n in counts.items() if word in known),
    }


def describe_coverage(counts: dict[str, Any]) -> str:
    """Puts `coverage` into words."""
    shares = [
        f"{counts[f'{kind}_with_vector']:,} of {counts[kind]:,} {kind} "
        f"({counts[f'{kind}_with_vector'] / max(1, counts[kind]):.2%})"
        for kind in ("types", "tokens")
    ]
    return f"vectors for {shares[0]} and {shares[1]}"
