"""Checks of single fields of raw annotations; `where` names file and row in the error."""

from typing import TypeVar

from tfds_refcoco.errors import DataError

_Kind = TypeVar("_Kind")
MAX_SIDE = 1 << 15  # pixels; what needs more does not fit in memory


def field(
    row: object, name: str, kinds: type[_Kind] | tuple[type[_Kind], ...], where: str
) -> _Kind:
    """Returns `row[name]`, which must exist and be of `kinds`; raises DataError."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a dictionary, found {type(row).__name__}.")
    if name not in row:
        raise DataError(f"{where}.{name}: the field is missing.")
    value = row[name]
    if not isinstance(value, kinds) or isinstance(value, bool):
        expected = " or ".join(
            k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,))
        )
        raise DataError(f"{where}.{name}: {type(value).__name__}, expected {expected}.")
    return value


def number(row: object, name: str, where: str) -> int:
    """Returns the whole number `row[name]`; raises DataError."""
    value = field(row, name, int, where)
    bits = 31 if name == "category_id" else 63  # as in the features of a record
    if not -(1 << bits) <= value < 1 << bits:
        raise DataError(f"{where}.{name}: the number does not fit in {bits + 1} bits.")
    return value


def side(value: int, where: str) -> int:
    """Returns the width or height of an image, in pixels; raises DataError."""
    if not 0 < value < MAX_SIDE:
        raise DataError(f"{where}: {value} is no size from 1 to {MAX_SIDE - 1:,} pixels.")
    return value


def text(row: object, name: str, where: str) -> str:
    """Returns the text `row[name]`; raises DataError."""
    value = field(row, name, str, where)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}.{name}: {value!r} is not valid Unicode text.") from error
    return value


def sentence(row: object, name: str, where: str) -> str:
    """Returns the text `row[name]`, which must not be blank; raises DataError."""
    value = text(row, name, where)
    if not value.strip():
        raise DataError(f"{where}.{name}: the sentence is empty.")
    return value


def numbers(row: object, name: str, where: str) -> list[int]:
    """Returns the list of whole numbers `row[name]`; raises DataError."""
    values = field(row, name, list, where)
    return [number({f"{name}[{i}]": v}, f"{name}[{i}]", where) for i, v in enumerate(values)]


def only(row: object, names: tuple[str, ...], where: str) -> None:
    """Raises DataError if `row` is no dictionary, or has other fields than `names`."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a dictionary, found {type(row).__name__}.")
    for name in row:
        if name not in names:
            raise DataError(f"{where}.{name}: no such field; there are {', '.join(names)}.")


def is_finite(value: object) -> bool:
    """Whether `value` is a number of sensible size."""
    return isinstance(value, int | float) and abs(value) < 1e9  # false for NaN as well


def unique(seen: set[int], value: int, where: str) -> None:
    """Adds `value` to `seen`; raises DataError if it is there already."""
    if value in seen:
        raise DataError(f"{where}: {value} appears twice; each needs a number of its own.")
    seen.add(value)
