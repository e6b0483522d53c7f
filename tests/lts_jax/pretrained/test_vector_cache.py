"""The cache of word vectors, and files with a vocabulary's vectors."""

import numpy as np
import pytest

from lts_jax.errors import ConfigError
from lts_jax.pretrained import glove, word_vectors
from tests.lts_jax.helpers.vector_files import TEXT, VECTORS, WORDS, read, write


def test_the_second_time_comes_from_the_cache(tmp_path, monkeypatch):
    path = write(tmp_path, TEXT + "x 1\n")
    cache = tmp_path / "cache"
    first = word_vectors.cached_vectors(path, WORDS, 50, cache, progress=False)
    reads, really_read = [], glove.read_vectors

    def counted(*args, **kwargs):
        reads.append(args)
        return really_read(*args, **kwargs)

    monkeypatch.setattr(word_vectors, "read_vectors", counted)
    second = word_vectors.cached_vectors(path, WORDS, 50, cache, progress=False)
    assert not reads and second.odd == first.odd == {glove.TOO_FEW: 1}
    assert (second.sha256, second.lines) == (first.sha256, 5)
    np.testing.assert_array_equal(second.vectors, first.vectors)
    np.testing.assert_array_equal(second.known, first.known)
    word_vectors.cached_vectors(path, WORDS[:2], 50, cache, progress=False)  # another vocabulary
    assert len(reads) == 1
    write(tmp_path, TEXT)  # another file
    word_vectors.cached_vectors(path, WORDS, 50, cache, progress=False)
    assert len(reads) == 2
    for entry in cache.iterdir():
        entry.write_bytes(b"damaged")
    assert word_vectors.cached_vectors(path, WORDS, 50, cache, progress=False).known.sum() == 4


def test_two_processes_can_fill_the_cache_concurrently(tmp_path, monkeypatch):
    """Each writes to a separate temporary file."""
    path, cache, names = write(tmp_path, TEXT), tmp_path / "cache", []
    replace = type(path).replace

    def seen(self, target):
        names.append(self.name)
        return replace(self, target)

    monkeypatch.setattr(type(path), "replace", seen)
    for _ in range(2):
        word_vectors.cached_vectors(path, WORDS, 50, cache, progress=False)
        for entry in cache.iterdir():
            entry.unlink()
    assert len(set(names)) == 2


def test_a_cache_that_cannot_be_written(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    path, cache = write(tmp_path, TEXT), tmp_path / "file" / "cache"
    vectors = word_vectors.cached_vectors(path, WORDS, 50, cache, progress=False)
    assert vectors.known.sum() == 4
    assert f"not cached: cannot write {cache}" in caplog.text


def test_a_written_vocabulary_keeps_the_files_hash(tmp_path):
    path = write(tmp_path, TEXT)
    source = word_vectors.describe_vectors(path, read(path))
    word_vectors.write_vectors(tmp_path / "own.npz", read(path), WORDS, source)
    for _ in range(2):  # the second time from the cache
        own = word_vectors.cached_vectors(
            tmp_path / "own.npz", WORDS, 50, tmp_path / "cache", progress=False
        )
        np.testing.assert_array_equal(own.vectors, VECTORS)
        assert own.origin == source and len(source["sha256"]) == 64
        assert word_vectors.describe_vectors(tmp_path / "own.npz", own)["origin"] == source
    for bad in ([1], "x" * 20_000):
        word_vectors.write_vectors(tmp_path / "bad.npz", read(path), WORDS, bad)
        with pytest.raises(ConfigError, match="array source cannot be read"):
            read(tmp_path / "bad.npz")
