"""Opens text files of word vectors, plain or inside a zip archive."""

import codecs
import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from lts_jax.errors import ConfigError

_MAX_RATIO = 200  # maximum compression ratio: only zip bombs exceed it


class OpenText(NamedTuple):
    """A text file of word vectors, open for reading.

    Attributes:
      where: location of the text, for errors.
      lines: the byte stream, after a byte order mark if any.
      file: the file on disk; its position shows the progress.
    """

    where: str
    lines: IO[bytes]
    file: IO[bytes]


@contextlib.contextmanager
def open_text(path: Path, size: int) -> Iterator[OpenText]:
    """Opens a text file of word vectors, or the one in a zip archive; see `find_member`.

    Raises:
      ConfigError: the archive is damaged, or contains no word vectors.
    """
    with path.open("rb") as raw:
        if not zipfile.is_zipfile(raw):
            raw.seek(0)
            _skip_mark(raw)
            yield OpenText(f"{path}: ", raw, raw)
            return
        where = f"{path}: "
        try:
            with zipfile.ZipFile(raw) as archive:
                info = find_member(path, archive, size)
                where += f"{info.filename}, "
                with archive.open(info) as stream:
                    _skip_mark(stream)
                    yield OpenText(where, stream, raw)
        except ConfigError:
            raise
        except Exception as error:  # a damaged archive can raise nearly anything
            raise ConfigError(
                f"{where}the archive is damaged before byte {raw.tell()} ({error}): "
                "download it again"
            ) from error


def _skip_mark(stream: IO[bytes]) -> None:
    if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        stream.seek(0)


def find_member(path: Path, archive: zipfile.ZipFile, size: int) -> zipfile.ZipInfo:
    """Returns the archive member with word vectors of `size` numbers.

    Raises:
      ConfigError: there is none, or more than one, or its compression ratio is too high.
    """
    texts = [
        info
        for info in archive.infolist()
        if info.filename.endswith(".txt") and not _is_macos_metadata(info.filename)
    ]
    fitting = [info for info in texts if f"{size}d" in info.filename] if len(texts) > 1 else texts
    if len(fitting) != 1:
        names = ", ".join(info.filename for info in archive.infolist()[:8]) or "none"
        raise ConfigError(
            f"{path}: its members are {names}; it must contain one .txt file with {size}d in its "
            f"name (model.embed_dim={size}); the directory ends at byte {path.stat().st_size}"
        )
    info = fitting[0]
    if info.file_size > 1 << 20 and info.file_size > _MAX_RATIO * info.compress_size:
        raise ConfigError(
            f"{path}: {info.filename}, at byte {info.header_offset}: {info.compress_size:,} bytes "
            f"unpack to {info.file_size:,}, more than {_MAX_RATIO} times as many: not a file of "
            "word vectors, which compress to a third; download it again"
        )
    return info


def _is_macos_metadata(name: str) -> bool:
    """Returns whether macOS added the member to the archive, such as `__MACOSX/._glove.txt`."""
    *above, last = name.split("/")
    return "__MACOSX" in above or last.startswith("._")
