"""Lists of image ids in text files: one id a line, `#` begins a comment."""

from collections.abc import Iterable
from pathlib import Path

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.files import write_text

_MAX_BYTES = 1 << 26


def read_ids(path: Path) -> set[int]:
    """Returns the ids in a file.

    Raises:
      DataError: it cannot be read, a line is no whole number, or there is none.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(
                f"{path}: more than the {_MAX_BYTES:,} bytes that a list of ids may have."
            )
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); name a text file of ids.") from error
    ids = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if not text.isdecimal():
            raise DataError(f"{path}: line {number}: {text!r} is no image id.")
        ids.add(int(text))
    if not ids:
        raise DataError(f"{path}: no image id is in it.")
    return ids


def write_ids(path: Path, ids: Iterable[int], notes: Iterable[str]) -> None:
    """Writes ids, below comments that say what they are: the complete list or none.

    Raises:
      OSError: it cannot be written; a list that was there before stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [*(f"# {note}" for note in notes), *map(str, ids)]
    write_text(path, "\n".join(lines) + "\n")
