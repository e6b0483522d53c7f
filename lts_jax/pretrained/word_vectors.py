"""Word vectors of a vocabulary: kept between runs, counted, and made a table of embeddings."""

import collections
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lts_jax.data.tokenizer import Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.pretrained.glove import READ_ERRORS, Vectors, read_vectors
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
            if saved["found"].shape == (len(words),) and vectors.shape == (
                saved["found"].sum(),
                size,
            ):
                return Vectors(
                    saved["found"], vectors, int(saved["lines"]), odd, str(saved["sha256"])
                )
    except READ_ERRORS:
        pass  # not there yet, or damaged: read again
    result = read_vectors(path, words, size, progress=progress)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = entry.with_name(f".{entry.name}.tmp.npz")
    np.savez(
        temporary,
        found=result.found,
        vectors=result.vectors,
        lines=result.lines,
        odd=np.array(list(result.odd), np.str_),
        counts=np.array(list(result.odd.values()), np.int64),
        sha256=result.sha256,
    )
    temporary.replace(entry)
    return result


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
