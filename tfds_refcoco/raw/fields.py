"""Checks of single fields of raw annotations; `where` is the file and row for error messages."""

from typing import TypeVar

from tfds_refcoco.errors import DataError

_Kind = TypeVar("_Kind")
MAX_SIDE = 1 << 15  # pixels; larger images do not fit in memory


def field(
    row: object, name: str, kinds: type[_Kind] | tuple[type[_Kind], ...], where: str
) -> _Kind:
    """Returns `row[name]`; raises DataError if it is missing or not of `kinds`."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a dictionary, got {type(row).__name__}.")
    if name not in row:
        raise DataError(f"{where}.{name}: the field is missing.")
    value = row[name]
    if not isinstance(value, kinds) or isinstance(value, bool):
        expected = " or ".join(
            k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,))
        )
        raise DataError(f"{where}.{name}: expected {expected}, got {type(value).__name__}.")
    return value


def number(row: object, name: str, where: str) -> int:
    """Returns the integer `row[name]`; raises DataError if it is invalid."""
    value = field(row, name, int, where)
    bits = 31 if name == "category_id" else 63  # as in a record's features
    if not -(1 << bits) <= value < 1 << bits:
        raise DataError(f"{where}.{name}: the number does not fit in {bits + 1} bits.")
    return value


def side(value: int, where: str) -> int:
    """Returns an image's width or height in pixels; raises DataError if it is invalid."""
    if not 0 < value < MAX_SIDE:
        raise DataError(f"{where}: {value} is not between 1 and {MAX_SIDE - 1:,} pixels.")
    return value


def text(row: object, name: str, where: str) -> str:
    """Returns the text `row[name]`; raises DataError if it is invalid."""
    value = field(row, name, str, where)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}.{name}: {value!r} is not valid Unicode text.") from error
    return value


def sentence(row: object, name: str, where: str) -> str:
    """Returns the text `row[name]`; raises DataError if it is invalid or blank."""
    value = text(row, name, where)
    if not value.strip():
        raise DataError(f"{where}.{name}: the sentence is empty.")
    return value


def numbers(row: object, name: str, where: str) -> list[int]:
    """Returns the list of integers `row[name]`; raises DataError if it is invalid."""
    values = field(row, name, list, where)
    return [number({f"{name}[{i}]": v}, f"{name}[{i}]", where) for i, v in enumerate(values)]


def only(row: object, names: tuple[str, ...], where: str) -> None:
    """Raises DataError if `row` is not a dictionary or has fields other than `names`."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a dictionary, got {type(row).__name__}.")
    for name in row:
        if name not in names:
            raise DataError(f"{where}.{name}: unknown field; expected {', '.join(names)}.")


def is_finite(value: object) -> bool:
    """Whether `value` is a finite number below 1e9."""
    return isinstance(value, int | float) and abs(value) < 1e9  # also false for NaN


def unique(seen: set[int], value: int, where: str) -> None:
    """Adds `value` to `seen`; raises DataError if it is a duplicate."""
    if value in seen:
        raise DataError(f"{where}: {value} appears twice; use a unique number for each.")
    seen.add(value)
