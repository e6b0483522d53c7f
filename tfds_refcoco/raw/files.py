"""Raw files, in folders or in zips as published.

Zips are read in place and never extracted to disk. They are not trusted: entries with names that
point outside the zip, and entries that decompress to an implausible size, are refused.
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

MAX_ANNOTATIONS = 1 << 30  # bytes; the largest, RefCOCOg's instances.json, has about 10^8
MAX_IMAGE = 1 << 26  # bytes
# Annotations have compression ratios of 4 to 20. Only zip bombs reach deflate's limit of 1,032.
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
        """Length in bytes; for a zip entry, its uncompressed length."""
        if self.member:
            return _open_zip(self.path).getinfo(self.member).file_size
        return self.path.stat().st_size

    def read(self, limit: int) -> bytes:
        """Returns the content.

        Args:
          limit: maximum size in bytes.

        Raises:
          DataError: the file cannot be read or is larger than `limit`.
        """
        try:
            if self.size > limit:
                raise DataError(
                    f"{self}: {self.size:,} bytes, above the limit of {limit:,} for such a file; "
                    "download the original file again."
                )
            if not self.member:
                return self.path.read_bytes()
            archive = _open_zip(self.path)
            info = archive.getinfo(self.member)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Other methods have no limit on the memory for decompression.
                raise DataError(f"{self}: unsupported compression; zip it again with deflate.")
            if info.file_size > 1 << 20 and info.file_size > _MAX_RATIO * info.compress_size:
                raise DataError(
                    f"{self}: refused as a zip bomb: {info.compress_size:,} bytes decompress to "
                    f"{info.file_size:,}, a ratio above {_MAX_RATIO}; download the original zip "
                    "again."
                )
            with archive.open(info) as entry:
                return entry.read(info.file_size + 1)  # the declared size may be wrong
        except OSError as error:
            raise DataError(f"{self}: cannot be read ({error.strerror or error}).") from error
        except _ZIP_ERRORS as error:
            raise DataError(
                f"{self}: damaged zip entry ({_reason(error)}); download the zip again."
            ) from error


# RuntimeError: encrypted; NotImplementedError: unknown compression.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def normalize(name: str) -> str:
    """Returns a file name in Unicode form NFC; macOS stores é as two characters."""
    return unicodedata.normalize("NFC", name)


def open_folder(folder: Path) -> dict[str, RawFile]:
    """Returns the files of a folder by name (see `normalize`)."""
    try:
        return {normalize(path.name): RawFile(path) for path in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}).") from error


def find_file(folder: Path, name: str) -> Path | None:
    """Returns the file `name` in a folder, in any Unicode form, or None."""
    path = folder / name
    if path.is_file():
        return path
    if name.isascii():  # has only one Unicode form
        return None
    for part in PurePosixPath(name).parts:
        folder = _listing(folder).get(normalize(part), folder / part)
    return folder if folder.is_file() else None


def _listing(folder: Path) -> dict[str, Path]:
    try:
        return _list_once(folder, folder.stat().st_mtime_ns)
    except (OSError, ValueError):  # the folder is missing, or its name contains a NUL
        return {}


# Cached, because each name in another Unicode form lists the folder.
@lru_cache(maxsize=64)
def _list_once(folder: Path, modified: int) -> dict[str, Path]:
    return {name: file.path for name, file in open_folder(folder).items()}


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file atomically.

    Raises:
      OSError: the file cannot be written; an existing file is unchanged.
    """
    # The name is unique, because another process may write the same file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:  # the error for a full disk does not name the file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def open_zip(path: Path, folder: str) -> dict[str, RawFile]:
    """Returns the files of the zip at `path` by name (see `normalize`); empty if it does not exist.

    Zips differ in the folders of their entries (`refcoco/`, `./refcoco/`, none). For a name in
    several folders, an entry in `folder` has priority, then the entry with the fewest folders.

    Raises:
      DataError: the file is not a zip, or an entry points outside the zip.
    """
    if not path.is_file():
        return {}
    files: dict[str, tuple[tuple[bool, int], RawFile]] = {}
    for info in _open_zip(path).infolist():
        *above, name = info.filename.replace("\\", "/").split("/")
        if not name or "__MACOSX" in above:  # a folder, or metadata of macOS
            continue
        name, rank = normalize(name), (above[-1:] != [folder], len(above))
        if name not in files or rank < files[name][0]:
            files[name] = rank, RawFile(path, info.filename)
    return {name: file for name, (_, file) in files.items()}


def _open_zip(path: Path) -> zipfile.ZipFile:
    status = path.stat()
    return _open_zip_once(path, status.st_size, status.st_mtime_ns)


# Cached, because opening reads a directory of 80,000 names. Reading is thread-safe.
@lru_cache(maxsize=16)
def _open_zip_once(path: Path, size: int, modified: int) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (*_ZIP_ERRORS, ValueError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a complete zip ({_reason(error)}); download it again."
        ) from error
    for info in archive.infolist():
        parts = info.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise DataError(
                f"{path}: refused: the entry {info.filename!r} points outside the zip; download "
                "the original zip."
            )
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(
                f"{path}: refused: the entry {info.filename!r} is a link; download the original "
                "zip."
            )
    return archive


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
