"""Lists of image ids in text files: one id per line, `#` starts a comment."""

from collections.abc import Iterable
from pathlib import Path

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.files import write_text

_MAX_BYTES = 1 << 26


def read_ids(path: Path) -> set[int]:
    """Returns the ids in a file.

    Raises:
      DataError: the file cannot be read, has a line that is not an integer, or has no ids.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(
                f"{path}: larger than the limit of {_MAX_BYTES:,} bytes for a list of image ids."
            )
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); specify a text file of image ids."
        ) from error
    ids = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if not text.isdecimal():
            raise DataError(f"{path}: line {number}: {text!r} is not an image id.")
        ids.add(int(text))
    if not ids:
        raise DataError(f"{path}: contains no image ids.")
    return ids


def write_ids(path: Path, ids: Iterable[int], notes: Iterable[str]) -> None:
    """Writes ids, after `notes` as comments. The file is replaced atomically.

    Raises:
      OSError: the file cannot be written; an existing file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [*(f"# {note}" for note in notes), *map(str, ids)]
    write_text(path, "\n".join(lines) + "\n")
