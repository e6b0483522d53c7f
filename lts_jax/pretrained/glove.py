"""Reads word vectors in GloVe's format (Pennington et al., 2014): `.txt`, `.zip` or `.npz`.

Files are streamed: only the vocabulary's vectors and one line or block are in memory. A line is a
word and its numbers, separated by single spaces. Some words of the published files contain spaces
(`. . .`), so the numbers are counted from the end of the line.
"""

import collections
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lts_jax.errors import ConfigError
from lts_jax.pretrained.archives import OpenText, open_text
from tfds_refcoco.console import printable, progress_stream

_MAX_LINE = 1 << 16  # bytes; the longest line of the published files has fewer than 5,000
_ROWS = 4096  # rows of an .npz in memory at a time
_MAX_NAME = 4096  # bytes per word in an .npz
_LARGEST = 1e4  # upper bound for the coordinates of a word vector
_ODD_SHARE = 0.1  # a file with a larger share of invalid lines is rejected
_ENOUGH = 100_000  # lines between checks, to reject a file before reading all of it

# Reasons for skipping a line.
TOO_FEW = "too few numbers"
TOO_MANY = "too many numbers"
NOT_FINITE = "a non-finite number"
BLANKS = "a space in the word"
TWICE = "a duplicate word"


class Vectors(NamedTuple):
    """Vectors of the words of a vocabulary.

    Attributes:
      known: bool `[V]`, whether each word has a vector.
      vectors: float32 `[known.sum(), D]`, the vectors of the known words, in order.
      lines: number of lines in the file, including invalid ones.
      odd: number of skipped lines, by reason.
      sha256: hash of the file.
      origin: the source recorded in the file, if any.
    """

    known: NDArray[np.bool_]
    vectors: NDArray[np.float32]
    lines: int
    odd: dict[str, int]
    sha256: str
    origin: dict[str, Any] | None = None


class _Parsed(NamedTuple):
    vectors: dict[str, NDArray[np.float32]]
    lines: int
    odd: dict[str, int]
    origin: dict[str, Any] | None = None


def read_vectors(path: Path, words: Sequence[str], size: int, *, progress: bool = True) -> Vectors:
    """Looks up words in a file of vectors.

    Invalid lines are skipped and counted. If a word occurs several times, its first line is used.

    Args:
      path: a .txt, a .zip of such files (of several, the one called `…{size}d…`), or an .npz with
        the arrays `words` and `vectors`, and optionally `source`, a JSON object.
      words: the words to look up.
      size: dimension of a vector.
      progress: whether to show a progress bar.

    Raises:
      ConfigError: the file is missing, damaged, of another dimension, or has none of the words.
    """
    try:
        total = path.stat().st_size
        with tqdm(
            total=total,
            unit="B",
            unit_scale=True,
            disable=not progress,
            leave=False,
            file=progress_stream(),
        ) as bar:
            bar.set_description(f"hashing {printable(path.name)}")
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    bar.update(len(block))
            bar.reset()
            bar.set_description(f"reading {printable(path.name)}")
            reader = _read_npz if path.suffix == ".npz" else _read_text
            parsed = reader(path, words, size, bar)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    vectors = parsed.vectors
    if not vectors:
        raise ConfigError(
            f"{path}: none of the {len(words)} words of the vocabulary occurs in its "
            f"{parsed.lines} lines: check that it is a file of word vectors"
        )
    return Vectors(
        np.array([word in vectors for word in words]),
        np.stack([vectors[word] for word in words if word in vectors]),
        parsed.lines,
        parsed.odd,
        digest.hexdigest(),
        parsed.origin,
    )


def _read_text(path: Path, words: Sequence[str], size: int, bar: tqdm) -> _Parsed:
    with open_text(path, size) as text:
        return _parse(text, words, size, bar)


def _parse(text: OpenText, words: Sequence[str], size: int, bar: tqdm) -> _Parsed:
    where = text.where
    wanted = {word.encode(): word for word in words}
    vectors: dict[str, NDArray[np.float32]] = {}
    odd: collections.Counter[str] = collections.Counter()
    lines, at, first_odd = 0, 0, ""
    while line := text.lines.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise ConfigError(
                f"{where}no line ends within {_MAX_LINE} bytes of byte {at}: not a text file of "
                "word vectors"
            )
        lines += 1
        word, values, what = _parse_line(line, size, wanted)
        if what and what != BLANKS and not first_odd:
            first_odd = f"byte {at} has {line.count(b' ')} numbers, or invalid ones ({what})"
        if values is not None:
            if wanted[word] in vectors:
                what = TWICE
            else:
                vectors[wanted[word]] = values
        if what:
            odd[what] += 1
        at += len(line)
        if lines % 1000 == 0:
            bar.update(text.file.tell() - bar.n)
        if lines % _ENOUGH == 0:  # reject other kinds of files early
            _check_share(where, odd, lines, size, first_odd)
    _check_share(where, odd, lines, size, first_odd)
    return _Parsed(vectors, lines, dict(odd))


def _check_share(where: str, odd: Mapping[str, int], lines: int, size: int, first_odd: str) -> None:
    wrong = sum(odd.get(what, 0) for what in (TOO_FEW, TOO_MANY, NOT_FINITE))
    if wrong > max(1, _ODD_SHARE * lines):  # one line may be a header
        raise ConfigError(
            f"{where}{wrong} of {lines} lines are not a word with model.embed_dim={size} numbers; "
            f"the first, at {first_odd}"
        )


def _parse_line(
    line: bytes, size: int, wanted: dict[bytes, str]
) -> tuple[bytes, NDArray[np.float32] | None, str]:
    """Returns the word, its vector if it is wanted and valid, and why the line is invalid."""
    line = line.rstrip(b" \t\r\n")
    blanks = line.count(b" ")
    if blanks < size:
        return b"", None, TOO_FEW
    what = ""
    if blanks == size:
        word, _, rest = line.partition(b" ")
    else:
        parts = line.rsplit(b" ", size)
        word = parts[0]
        rest = line[len(word) + 1 :]
        what = TOO_MANY if _is_number(word.rpartition(b" ")[2]) else BLANKS
    # Anything else, including nan and inf, has other characters.
    if rest.translate(None, b"0123456789.-+eE "):
        return word, None, NOT_FINITE
    if what or word not in wanted:
        return word, None, what
    try:
        values = np.array(rest.split(b" "), np.float32)
    except ValueError:
        return word, None, NOT_FINITE
    if values.shape != (size,) or not (np.abs(values) < _LARGEST).all():
        return word, None, NOT_FINITE
    return word, values, ""


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_npz(path: Path, words: Sequence[str], size: int, bar: tqdm) -> _Parsed:
    vectors: dict[str, NDArray[np.float32]] = {}
    odd: collections.Counter[str] = collections.Counter()
    wanted, array = set(words), "words"
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open("words.npy") as of_words,
            archive.open("vectors.npy") as of_vectors,
        ):
            (n,), name = _npy_header(of_words, "US", 1)
            array = "vectors"
            (rows, width), number = _npy_header(of_vectors, "f", 2)
            if rows != n or width != size or name.itemsize > _MAX_NAME:
                raise ValueError(f"{n} words and vectors [{rows}, {width}], not [{n}, {size}]")
            for start in range(0, n, _ROWS):
                count = min(_ROWS, n - start)
                array = f"words, rows from {start},"
                names = _block(of_words, name, count)
                array = f"vectors, rows from {start},"
                block = _block(of_vectors, number, count * size).reshape(count, size)
                for word, values in zip(_texts(names), block, strict=True):
                    if word in wanted and word in vectors:
                        odd[TWICE] += 1
                    elif word in wanted and (np.abs(values) < _LARGEST).all():
                        vectors[word] = values.astype(np.float32)
                    elif word in wanted:
                        odd[NOT_FINITE] += 1
                bar.update(int(bar.total * (start + count) / n) - bar.n)
            for array, stream in (("words", of_words), ("vectors", of_vectors)):  # noqa: B007
                if stream.read(1):  # reading to the end also verifies the checksum
                    raise ValueError("more bytes than its header says")
            array = "source"
            origin = _source(archive)
    except ConfigError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        raise ConfigError(
            f"{path}: array {array} cannot be read ({error}); expected: words [N], strings, and "
            f"vectors [N, {size}], floating point (model.embed_dim={size})"
        ) from error
    return _Parsed(vectors, n, dict(odd), origin)


def _source(archive: zipfile.ZipFile) -> dict[str, Any] | None:
    if "source.npy" not in archive.namelist():
        return None
    with archive.open("source.npy") as stream:
        _, dtype = _npy_header(stream, "U", 0)
        if dtype.itemsize > _MAX_LINE:
            raise ValueError(f"{dtype}")
        source = json.loads(str(_block(stream, dtype, 1)[0]))
    if not isinstance(source, dict):
        raise ValueError("it is not a JSON object")
    return source


def _npy_header(stream: IO[bytes], kinds: str, ndim: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"version {version} of the .npy format")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in kinds or len(shape) != ndim or by_columns or not dtype.itemsize:
        raise ValueError(f"{dtype} {shape}")
    return shape, dtype


def _block(stream: IO[bytes], dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    data = stream.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise ValueError("it ends before its last row")
    return np.frombuffer(data, dtype)


def _texts(names: NDArray[Any]) -> Iterator[str]:
    for name in names.tolist():
        yield name.decode(errors="replace") if isinstance(name, bytes) else name
