"""Reads this project's JSON files and validates them against a shape.

A shape is a function that raises `MismatchError` if a value does not match:

    RUN = record({"step": natural, "config": mapping, "devices": text})
    run = read_json(folder / "run.json", RUN, "evaluate again")
"""

import json
import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lts_jax.errors import ConfigError

MOST_BYTES = 2**30
"""Maximum file size; predictions.json has about 600 bytes per sentence."""

Shape = Callable[[Any], None]


class MismatchError(ValueError):
    """A value does not match its shape.

    Attributes:
      where: path to the value: field names and list indices, outermost first.
    """

    def __init__(self, message: str, *where: str | int) -> None:
        super().__init__(message)
        self.where = where

    def inside(self, step: str | int) -> "MismatchError":
        """Returns the error with `step` prepended to the path."""
        return MismatchError(str(self), step, *self.where)


def read_json(path: Path, shape: Shape, fix: str) -> Any:
    """Reads and validates a file.

    Args:
      path: path of the file.
      shape: the expected shape.
      fix: end of the error message: how to get a valid file.

    Raises:
      ConfigError: the file is missing, is not JSON, or does not match; the message names the
        field.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path}: larger than the maximum of {MOST_BYTES} bytes; {fix}")
        return parse_json(path.read_bytes(), shape, str(path), fix)
    except FileNotFoundError:
        raise ConfigError(f"{path}: missing; {fix}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {fix}") from error


def parse_json(data: bytes, shape: Shape, where: str, fix: str) -> Any:
    """Like `read_json`, for bytes; errors name `where` instead of the file."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply; {fix}") from None
    except ValueError as error:
        raise ConfigError(f"{where}: not a complete JSON file ({error}); {fix}") from error
    try:
        shape(value)
    except MismatchError as error:
        raise ConfigError(f"{where}{_path(error.where)}: {error}; {fix}") from error
    return value


def read_json_lines(path: Path, shape: Shape) -> tuple[list[Any], list[int]]:
    """Reads a file with one value per line.

    Returns:
      The values, and the numbers of invalid lines, from 1. The last line is often invalid: a
      killed process leaves it incomplete.

    Raises:
      ConfigError: the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if not lines[-1]:
        del lines[-1]
    values, bad = [], []
    for number, line in enumerate(lines, 1):
        try:
            values.append(parse_json(line, shape, "", ""))
        except ConfigError:
            bad.append(number)
    return values, bad


def _path(where: tuple[str | int, ...]) -> str:
    """Formats `(3, "segmentation", "size", 0)` as `[3]: segmentation.size[0]`."""
    text = ""
    for step in where:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f"{'.' if ': ' in text else ': '}{step}"
    return text


def _expected(value: Any, what: str) -> MismatchError:
    return MismatchError(f"{reprlib.repr(value)}, expected {what}")


# ---- Shapes


def anything(value: Any) -> None:
    """Accepts every value."""


def text(value: Any) -> None:
    """A string that can be encoded as UTF-8."""
    if not isinstance(value, str):
        raise _expected(value, "a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _expected(value, "a string without unpaired surrogates") from None


def boolean(value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise _expected(value, "true or false")


def whole(value: Any) -> None:
    """A 64-bit integer."""
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise _expected(value, "an integer")


def natural(value: Any) -> None:
    """A non-negative integer."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise _expected(value, "a non-negative integer")


def number(value: Any) -> None:
    """A finite number."""
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        raise _expected(value, "a finite number")


def share(value: Any) -> None:
    """A number from 0 to 1."""
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise _expected(value, "a number from 0 to 1")


def one_of(*choices: str) -> Shape:
    """One of the given strings."""

    def check(value: Any) -> None:
        if value not in choices or not isinstance(value, str):
            raise _expected(value, f"one of {', '.join(map(repr, choices))}")

    return check


def mapping(value: Any) -> None:
    """A mapping with string keys."""
    if not isinstance(value, dict):
        raise _expected(value, "a mapping")


def optional(shape: Shape) -> Shape:
    """`shape` or null."""

    def check(value: Any) -> None:
        if value is not None:
            shape(value)

    return check


def list_of(shape: Shape, length: int | None = None, least: int = 0) -> Shape:
    """A list of values of a shape, with exactly `length` or at least `least` values."""

    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise _expected(value, "a list")
        if length not in (None, len(value)):
            raise _expected(value, f"{length} values")
        if len(value) < least:
            raise _expected(value, f"at least {least} values")
        for i, x in enumerate(value):
            try:
                shape(x)
            except MismatchError as error:
                raise error.inside(i) from None

    return check


def mapping_of(shape: Shape) -> Shape:
    """A mapping with any keys whose values have a shape."""

    def check(value: Any) -> None:
        mapping(value)
        record(dict.fromkeys(value, shape))(value)

    return check


def record(fields: Mapping[str, Shape], extra: Mapping[str, Shape] | None = None) -> Shape:
    """A mapping with these fields and optionally those of `extra`; other fields are ignored."""

    def check(value: Any) -> None:
        mapping(value)
        for name in fields:
            if name not in value:
                raise MismatchError("missing", name)
        for name, shape in (*fields.items(), *(extra or {}).items()):
            if name in value:
                try:
                    shape(value[name])
                except MismatchError as error:
                    raise error.inside(name) from None

    return check
