"""Raw files, in folders or in the zips they were published in.

Nothing is unpacked: a file in a zip is read where it lies. Zips are not trusted. One with a name
that points outside of it is refused, and so is an entry that unpacks to more than such a file has.
"""

import secrets
import stat
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from tfds_refcoco.errors import DataError

MAX_ANNOTATIONS = 1 << 30  # bytes; RefCOCOg's instances.json, the largest, has some 10^8
MAX_IMAGE = 1 << 26  # bytes
# Annotations shrink by 4 to 20 in a zip. Deflate's limit, which only bombs reach, is 1,032.
_MAX_RATIO = 200


@dataclass(frozen=True)
class RawFile:
    """A file on disk or, with `member`, an entry of the zip at `path`."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path} ({self.member})" if self.member else str(self.path)

    @property
    def size(self) -> int:
        """Length in bytes, of an entry after unpacking."""
        if self.member:
            return _open_zip(self.path).getinfo(self.member).file_size
        return self.path.stat().st_size

    def read(self, limit: int) -> bytes:
        """Returns the content.

        Args:
          limit: most bytes that a file of this kind has.

        Raises:
          DataError: it cannot be read, or is larger.
        """
        try:
            if self.size > limit:
                raise DataError(
                    f"{self}: {self.size:,} bytes, more than the {limit:,} that such a file may "
                    "have; fetch the original file again."
                )
            if not self.member:
                return self.path.read_bytes()
            archive = _open_zip(self.path)
            info = archive.getinfo(self.member)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # The others unpack as much as they like at once.
                raise DataError(f"{self}: neither stored nor deflated; zip it again.")
            if info.file_size > 1 << 20 and info.file_size > _MAX_RATIO * info.compress_size:
                raise DataError(
                    f"{self}: {info.compress_size:,} bytes that unpack to {info.file_size:,}, more "
                    f"than {_MAX_RATIO} times as many, are no such file but a zip bomb; fetch the "
                    "original zip again."
                )
            with archive.open(info) as entry:
                return entry.read(info.file_size + 1)  # no more, whatever there really is
        except OSError as error:
            raise DataError(f"{self}: cannot be read ({error.strerror or error}).") from error
        except _ZIP_ERRORS as error:
            raise DataError(
                f"{self}: the zip is damaged there ({_reason(error)}); fetch it again."
            ) from error


# RuntimeError: encrypted; NotImplementedError: an unknown compression.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def normalize(name: str) -> str:
    """Returns a file's name in Unicode's composed form: macOS writes é as two characters."""
    return unicodedata.normalize("NFC", name)


def open_folder(folder: Path) -> dict[str, RawFile]:
    """Returns the files of a folder by name (see `normalize`); it is listed once."""
    try:
        return {normalize(path.name): RawFile(path) for path in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}).") from error


def find_file(folder: Path, name: str) -> Path | None:
    """Returns the file `name` below a folder, in whichever Unicode form; None if there is none."""
    path = folder / name
    if path.is_file():
        return path
    if name.isascii():  # which has one form only
        return None
    for part in PurePosixPath(name).parts:
        folder = _listing(folder).get(normalize(part), folder / part)
    return folder if folder.is_file() else None


def _listing(folder: Path) -> dict[str, Path]:
    try:
        return _list_once(folder, folder.stat().st_mtime_ns)
    except (OSError, ValueError):  # it is not there, or its name holds a NUL
        return {}


# Each name in another form would list the folder anew.
@lru_cache(maxsize=64)
def _list_once(folder: Path, modified: int) -> dict[str, Path]:
    return {name: file.path for name, file in open_folder(folder).items()}


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, of a text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes the complete file or none.

    Raises:
      OSError: it cannot be written; a file that was there before stays as it was.
    """
    # The name is unique, as another process may write the same file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:  # a full disk's does not name the file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def open_zip(path: Path, folder: str) -> dict[str, RawFile]:
    """Returns the files by name (see `normalize`) of the zip at `path`, if there is one.

    Zips differ in what stands before the names (`refcoco/`, `./refcoco/`, nothing). Where a name
    stands in several places the one in `folder` is taken, then the one least deep.

    Raises:
      DataError: it is no zip, or a name in it points outside of it.
    """
    if not path.is_file():
        return {}
    found: dict[str, tuple[tuple[bool, int], RawFile]] = {}
    for info in _open_zip(path).infolist():
        *above, name = info.filename.replace("\\", "/").split("/")
        if not name or "__MACOSX" in above:  # a folder, or what macOS adds
            continue
        name, rank = normalize(name), (above[-1:] != [folder], len(above))
        if name not in found or rank < found[name][0]:
            found[name] = rank, RawFile(path, info.filename)
    return {name: file for name, (_, file) in found.items()}


def _open_zip(path: Path) -> zipfile.ZipFile:
    status = path.stat()
    return _open_zip_once(path, status.st_size, status.st_mtime_ns)


# Each read would list 80,000 names anew. Reading is safe in threads.
@lru_cache(maxsize=16)
def _open_zip_once(path: Path, size: int, modified: int) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (*_ZIP_ERRORS, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a whole zip ({_reason(error)}); fetch it again.") from error
    for info in archive.infolist():
        parts = info.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise DataError(
                f"{path}: refused: the entry {info.filename!r} points outside of the zip; fetch "
                "the original zip."
            )
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(
                f"{path}: refused: the entry {info.filename!r} is a link; fetch the original zip."
            )
    return archive


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
