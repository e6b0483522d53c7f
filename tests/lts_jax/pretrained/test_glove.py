"""Published and damaged files of word vectors."""

import json
import re
import tracemalloc
import zipfile

import numpy as np
import pytest

from lts_jax.data.vocabulary import Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.pretrained import glove, word_vectors
from tests.lts_jax.helpers.vector_files import KNOWN, TEXT, VECTORS, WORDS, line, read, write


def test_every_form_gives_the_same(tmp_path):
    text = write(tmp_path, TEXT)
    with zipfile.ZipFile(tmp_path / "one.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("vectors.txt", TEXT)
    with zipfile.ZipFile(tmp_path / "many.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for size in (50, 100, 200, 300):
            file.writestr(f"glove.6B.{size}d.txt", TEXT if size == 50 else line("man", [0] * size))
    np.savez_compressed(tmp_path / "v.npz", words=np.array(KNOWN), vectors=VECTORS)
    for path in (text, tmp_path / "one.zip", tmp_path / "many.zip", tmp_path / "v.npz"):
        vectors = read(path)
        assert vectors.known.tolist() == [True, True, True, False, True], path
        np.testing.assert_array_equal(vectors.vectors, VECTORS)
        assert vectors.lines == 4 and not vectors.odd and len(vectors.sha256) == 64
    assert read(tmp_path / "many.zip", 300, ("man",)).vectors.shape == (1, 300)


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbf" + TEXT.encode())
    assert read(path).known.tolist() == [True, True, True, False, True]


def test_a_zip_made_by_finder(tmp_path):
    """macOS adds a metadata file for each member, which is ignored. Sizes may be zip64."""
    path = tmp_path / "glove.50d.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("glove.50d.txt", "w", force_zip64=True) as entry:
            entry.write(TEXT.encode())
        archive.writestr("__MACOSX/._glove.50d.txt", b"\0\5\x16\7" + bytes(100))
        archive.writestr("._glove.50d.txt", b"\0\5\x16\7" + bytes(100))
    assert read(path).known.tolist() == [True, True, True, False, True]


def test_other_files_are_rejected_early(tmp_path):
    path = tmp_path / "newlines.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("glove.txt", b"\n" * (5 << 20))
    with pytest.raises(ConfigError, match=r"unpack to 5,242,880, more than 200 times as many"):
        read(path)
    lines = write(tmp_path, b"\n" * (5 << 20), "newlines.txt")
    with pytest.raises(ConfigError, match="100000 of 100000 lines are not a word with"):
        read(lines)


def test_invalid_lines_are_skipped_and_counted(tmp_path):
    numbers = TEXT.splitlines()[0].partition(" ")[2]
    filler = "".join(line(f"word{i}", VECTORS[0]) for i in range(100))
    odd = [
        "400000 50",  # a header
        f". . . {numbers}",  # in the published 840B file
        f"at name@domain.com {numbers}",
        f"man {numbers} 0.5",
        f"blue {numbers[: numbers.rindex(' ')]} nan",
        f"left {numbers[: numbers.rindex(' ')]} 1.2.3",
        "",
        f"man {numbers}",
    ]
    path = write(tmp_path, filler + TEXT + "\n".join(odd) + "\n")
    vectors = read(path)
    assert vectors.odd == {
        glove.TOO_FEW: 2,
        glove.BLANKS: 2,
        glove.TOO_MANY: 1,
        glove.NOT_FINITE: 2,
        glove.TWICE: 1,
    }
    described = word_vectors.describe_odd_lines(vectors)
    assert described.startswith("skipped of 112 lines: 2 with too few numbers, ")
    np.testing.assert_array_equal(vectors.vectors, VECTORS)
    assert not read(path, words=(".", "man")).known[0]  # `. . .` is not `.`


def test_words_without_a_vector_are_drawn_like_the_others():
    rng = np.random.default_rng(1)
    n, mean, deviation = 4000, rng.normal(0, 1, 8), rng.uniform(0.1, 2, 8)
    values = rng.normal(mean, deviation, (n, 8)).astype(np.float32)
    known = np.arange(2 * n) % 2 == 0
    vectors = glove.Vectors(known, values, n, {}, "")
    table = word_vectors.embedding_table(vectors, seed=0)
    assert table.shape == (2 * n + 2, 8) and table.dtype == np.float32
    np.testing.assert_array_equal(table[2:][known], values)
    drawn = table[2:][~known]
    np.testing.assert_allclose(drawn.mean(0), values.mean(0), atol=0.1)
    np.testing.assert_allclose(drawn.std(0), values.std(0), rtol=0.05)
    np.testing.assert_array_equal(table, word_vectors.embedding_table(vectors, seed=0))
    assert (table != word_vectors.embedding_table(vectors, seed=1)).any()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "none of the 5 words"),
        ("a.txt", b"a" * 100_000, r"no line ends within \d+ bytes of byte 0"),
        ("a.txt", "".join(line("x", [0] * 60) for _ in "ab"), r"embed_dim=50 .* byte 0 has 60"),
        ("a.txt", "".join(line("x", [0] * 25) for _ in "ab"), r"embed_dim=50 .* byte 0 has 25"),
        ("a.npz", b"", "array words cannot be read"),
        ("a.npz", b"PK\x03\x04", "array words cannot be read"),
    ],
)
def test_no_file_of_vectors(tmp_path, name, data, message):
    with pytest.raises(ConfigError, match=message) as error:
        read(write(tmp_path, data, name))
    assert str(tmp_path / name) in str(error.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "missing.txt")


def test_invalid_arrays(tmp_path):
    for words, vectors, message in (
        (np.array(KNOWN, object), VECTORS, "array words cannot be read"),
        (np.array(KNOWN), VECTORS[:, :40], r"\[4, 40\], not \[4, 50\]"),
        (np.array(KNOWN[:3]), VECTORS, "3 words and vectors"),
        (np.array(KNOWN), VECTORS.astype(int), "int64"),
    ):
        np.savez(tmp_path / "v.npz", words=words, vectors=vectors)
        with pytest.raises(ConfigError, match=message):
            read(tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", vectors=VECTORS)
    with pytest.raises(ConfigError, match="array words cannot be read"):
        read(tmp_path / "v.npz")


def test_memory_is_bounded_by_what_is_kept(tmp_path):
    """For a text file, and for archives with a high compression ratio."""
    rows = "".join(line(f"w{i}", VECTORS[i % 4]) for i in range(2000))
    text = write(tmp_path, TEXT + rows * 6)
    with zipfile.ZipFile(tmp_path / "v.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("v.txt", TEXT + line("x", [0] * 50) * 15_000)
    np.savez_compressed(
        tmp_path / "v.npz",
        words=np.array([*KNOWN, *["x"] * 30_000]),
        vectors=np.concatenate([VECTORS, np.zeros((30_000, 50), np.float32)]),
    )
    for path in (text, tmp_path / "v.zip", tmp_path / "v.npz"):  # 5 to 6 MB, uncompressed
        tracemalloc.start()
        vectors = read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4e6 and vectors.known.sum() == 4, (path, peak)


@pytest.mark.parametrize("name", ["v.txt", "v.zip", "v.npz"])
def test_mutated_files(tmp_path, name):
    """Each file is rejected with a position, or every vector matches its changed line."""
    path = tmp_path / name
    if name == "v.txt":
        path.write_text(TEXT)
    elif name == "v.zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("v.txt", TEXT)
    else:
        np.savez(path, words=np.array(KNOWN), vectors=VECTORS)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for i in range(300):
        data = bytearray(whole)
        if i % 3 == 0:
            for at in rng.integers(len(data), size=3):
                data[at] = rng.integers(256)
        elif i % 3 == 1:
            del data[rng.integers(len(data)) :]
        else:
            at = rng.integers(len(data))
            data[at : at + int(rng.integers(2)) * 9] = rng.bytes(int(rng.integers(1, 9)))
        path.write_bytes(data)
        try:
            vectors = read(path)
        except ConfigError as error:
            where = r"byte \d+|array (words|vectors)|none of the 5 words"
            assert re.search(where, str(error)), str(error)
            refused += 1
            continue
        known = [w for w, has_vector in zip(WORDS, vectors.known, strict=True) if has_vector]
        if name == "v.txt":
            lines = bytes(data).split(b"\n")
            for word, values in zip(known, vectors.vectors, strict=True):
                of_word = [x.split() for x in lines if x.split()[:1] == [word.encode()]]
                assert any(
                    len(x) == 51 and np.array_equal(np.array(x[1:], np.float32), values)
                    for x in of_word
                )
        else:  # archive members have checksums
            for word, values in zip(known, vectors.vectors, strict=True):
                np.testing.assert_array_equal(values, VECTORS[KNOWN.index(word)])
    assert refused > (15 if name == "v.txt" else 150)


@pytest.mark.slow
def test_coverage_of_refcoco(test_data, tmp_path):
    """The substitute for GloVe, as a text file, covers the tokens of val, testA and testB."""
    with np.load(test_data / "vectors" / "words_300d_fp16.npz") as file:
        words, values = file["words"].tolist(), file["vectors"].astype(np.float32)
    with (tmp_path / "glove.300d.txt").open("w", encoding="utf-8") as file:
        file.writelines(line(w, v) for w, v in zip(words, values, strict=True))
    sentences = []
    for split in ("val", "testA", "testB"):
        rows = json.loads((test_data / "refcoco_unc" / f"{split}.json").read_text())
        sentences += [s["sent"] for ref in rows for s in ref["sentences"]]
    assert len(sentences) == 21_586  # published: 10,834 + 5,657 + 5,095
    vocabulary = Vocabulary.build(sentences)
    vectors = read(tmp_path / "glove.300d.txt", 300, vocabulary.words)
    counts = word_vectors.coverage(vectors, vocabulary, sentences)
    print(word_vectors.describe_coverage(counts))
    assert counts["tokens_with_vector"] >= 0.97 * counts["tokens"]
