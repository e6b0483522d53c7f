"""Reads a table of expressions by annotation id, as CSV or JSON."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tfds_refcoco.errors import DataError
from tfds_refcoco.importers.common import note_other_texts, split_texts, text_field
from tfds_refcoco.raw.files import MAX_ANNOTATIONS, RawFile

_ID_NAMES = ("ann_id", "annotation_id", "ann_ids", "annotation_ids", "id")


class TableRow(NamedTuple):
    """One expression.

    Attributes:
      text: the expression.
      ann_ids: annotation ids of its targets; empty for no target.
      image_id: id of its image, if specified.
      split: split of its image, if specified.
      where: location of the row for error messages.
    """

    text: str
    ann_ids: list[int]
    image_id: int | None
    split: str | None
    where: str


def read_table(path: Path, text: str | None, notes: Counter[str]) -> Iterator[TableRow]:
    """Yields the expressions of a table; column names are case-insensitive.

    Args:
      path: a CSV, or a JSON with a list of rows or a dictionary of texts by annotation id.
      text: name of the column with the expressions; by default one of `TEXT_NAMES`.
      notes: counts of ignored items.

    Raises:
      DataError: the file or a row is invalid.
    """
    file = RawFile(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    table = path.suffix.lower() in (".csv", ".tsv", ".txt")
    rows: Any = _read_csv(file) if table else _read_json(file)
    if isinstance(rows, dict):  # {annotation id: text or list of texts}
        rows = [{"ann_id": ann_id, "expressions": value} for ann_id, value in rows.items()]
        text = None
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list, or a dictionary by annotation id.")
    for number, row in enumerate(rows):
        where = f"{path}: row {number + 1}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a dictionary.")
        if None in row:
            raise DataError(f"{where}: more values than columns; quote texts with commas.")
        yield from _expressions(row, text, where, notes)


def _expressions(
    row: dict[str, Any], text: str | None, where: str, notes: Counter[str]
) -> Iterator[TableRow]:
    """Yields the expressions of one row."""
    values = {name.strip().lower(): value for name, value in row.items()}
    if len(values) < len(row):
        raise DataError(f"{where}: {', '.join(row)}: two names differ only in case; rename one.")
    name = text_field(values, text)
    id_name = next((n for n in _ID_NAMES if n in values), None)
    if name is None or (id_name is None and "image_id" not in values):
        raise DataError(
            f"{where}: expected the columns ann_id (or image_id, for no target) and "
            f"{text or 'expression'}, got {', '.join(row)}."
        )
    note_other_texts(values, name, notes)
    ann_ids = _ids(values[id_name], f"{where}.{id_name}") if id_name else []
    if len(set(ann_ids)) < len(ann_ids):
        raise DataError(f"{where}.{id_name}: {ann_ids} names an annotation twice.")
    image_ids = _ids(values.get("image_id"), f"{where}.image_id")
    if len(image_ids) > 1:
        raise DataError(f"{where}.image_id: expected one id, got {image_ids}.")
    split = str(values.get("split") or "").strip()
    texts = split_texts(values[name], f"{where}.{name}")
    notes["rows without expressions were skipped"] += not texts
    for one in texts:
        yield TableRow(one, ann_ids, next(iter(image_ids), None), split or None, where)


def _read_csv(file: RawFile) -> list[dict[str, Any]]:
    try:
        content = file.read(MAX_ANNOTATIONS).decode("utf-8-sig").lstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 ({error}); save it as UTF-8.") from error
    lines = io.StringIO(content, newline=None)  # any line ending
    delimiter = max(",;\t", key=lines.readline().count)
    lines.seek(0)
    try:
        # Strict: otherwise an unclosed quote swallows the following rows.
        rows = csv.DictReader(lines, delimiter=delimiter, strict=True)
        columns = [name.strip().lower() for name in rows.fieldnames or ()]
        if twice := [name for name in columns if columns.count(name) > 1]:
            raise DataError(f"{file}: two columns are named {twice[0]!r}; rename one.")
        return list(rows)
    except csv.Error as error:
        raise DataError(f"{file}: not readable CSV ({error}); save it again.") from error


def _read_json(file: RawFile) -> object:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            name = next(k for k, n in Counter(k for k, _ in pairs).items() if n > 1)
            raise DataError(
                f"{file}: the key {name!r} appears twice; use a list for several texts."
            )
        return row

    try:
        content: object = json.loads(file.read(MAX_ANNOTATIONS), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not a readable JSON file ({error}); fix it.") from error
    return content


def _ids(value: Any, where: str) -> list[int]:
    """Parses 12, "12", "12 13", "12;13" or [12, 13]; returns [] for "" and None."""
    if isinstance(value, str):
        value = value.replace(";", " ").replace(",", " ").split()
        # int() also accepts 1_2, which may be two numbers.
        if not all(re.fullmatch(r"-?[0-9]{1,18}", one) for one in value):
            raise DataError(f"{where}: {value!r} is not an id.")
        return [int(one) for one in value]
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(one) is int for one in values):
        raise DataError(f"{where}: {value!r} is not an id.")
    return list(values)
