"""A table of expressions by annotation id: CSV or JSON."""

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
      ann_ids: of the annotations that it means, none for no target.
      image_id: of its image, if the row says so.
      split: of its image, if the row says so.
      where: names the row in messages.
    """

    text: str
    ann_ids: list[int]
    image_id: int | None
    split: str | None
    where: str


def read_table(path: Path, text: str | None, notes: Counter[str]) -> Iterator[TableRow]:
    """Yields the expressions of a table; upper and lower case of columns are the same.

    Args:
      path: a CSV, or a JSON of a list of rows or of texts by annotation id.
      text: name of the column that holds the expressions; one of `TEXT_NAMES` if None.
      notes: counts what is not kept.

    Raises:
      DataError: the file or a row is faulty.
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
            raise DataError(f"{where}: more values than columns; put texts with commas in quotes.")
        yield from _expressions(row, text, where, notes)


def _expressions(
    row: dict[str, Any], text: str | None, where: str, notes: Counter[str]
) -> Iterator[TableRow]:
    """Yields those of one row."""
    found = {name.strip().lower(): value for name, value in row.items()}
    if len(found) < len(row):
        raise DataError(f"{where}: {', '.join(row)}: two names differ in case alone; rename one.")
    name = text_field(found, text)
    id_name = next((n for n in _ID_NAMES if n in found), None)
    if name is None or (id_name is None and "image_id" not in found):
        raise DataError(
            f"{where}: expected the columns ann_id (or image_id, for no target) and "
            f"{text or 'expression'}, found {', '.join(row)}."
        )
    note_other_texts(found, name, notes)
    ann_ids = _ids(found[id_name], f"{where}.{id_name}") if id_name else []
    if len(set(ann_ids)) < len(ann_ids):
        raise DataError(f"{where}.{id_name}: {ann_ids} names an annotation twice.")
    image_ids = _ids(found.get("image_id"), f"{where}.image_id")
    if len(image_ids) > 1:
        raise DataError(f"{where}.image_id: {image_ids}, expected one image.")
    split = str(found.get("split") or "").strip()
    texts = split_texts(found[name], f"{where}.{name}")
    notes["rows without an expression were left out"] += not texts
    for one in texts:
        yield TableRow(one, ann_ids, next(iter(image_ids), None), split or None, where)


def _read_csv(file: RawFile) -> list[dict[str, Any]]:
    try:
        content = file.read(MAX_ANNOTATIONS).decode("utf-8-sig").lstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 ({error}); save it as UTF-8.") from error
    lines = io.StringIO(content, newline=None)  # of any system
    delimiter = max(",;\t", key=lines.readline().count)
    lines.seek(0)
    try:
        # Strict: otherwise a quote that is not closed takes the rows below it for its text.
        rows = csv.DictReader(lines, delimiter=delimiter, strict=True)
        columns = [name.strip().lower() for name in rows.fieldnames or ()]
        if twice := [name for name in columns if columns.count(name) > 1]:
            raise DataError(f"{file}: there are two columns {twice[0]!r}; rename one.")
        return list(rows)
    except csv.Error as error:
        raise DataError(f"{file}: not readable CSV ({error}); save it again.") from error


def _read_json(file: RawFile) -> object:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            name = next(k for k, n in Counter(k for k, _ in pairs).items() if n > 1)
            raise DataError(f"{file}: {name!r} is there twice; give both texts in a list.")
        return row

    try:
        content: object = json.loads(file.read(MAX_ANNOTATIONS), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not a readable JSON file ({error}); fix it.") from error
    return content


def _ids(value: Any, where: str) -> list[int]:
    """Reads 12, "12", "12 13", "12;13" or [12, 13]; nothing of "" or None."""
    if isinstance(value, str):
        value = value.replace(";", " ").replace(",", " ").split()
        # What int() takes beside digits, 1_2, may be two numbers.
        if not all(re.fullmatch(r"-?[0-9]{1,18}", one) for one in value):
            raise DataError(f"{where}: {value!r} is no id.")
        return [int(one) for one in value]
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(one) is int for one in values):
        raise DataError(f"{where}: {value!r} is no id.")
    return list(values)
