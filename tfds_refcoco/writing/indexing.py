"""Creates the sentence index of a build in one pass over its records."""

import dataclasses
from pathlib import Path

from tqdm import tqdm

from tfds_refcoco import masks
from tfds_refcoco.console import progress_stream
from tfds_refcoco.records.layout import Counts, Index, picture_of, split_lengths, write_index
from tfds_refcoco.records.reader import sentence_mask
from tfds_refcoco.records.split import Part, Split
from tfds_refcoco.records.types import Record

Row = tuple[
    int, int, int, int, int, int, int, int, int, int, int, str, str, str
]  # columns of `Index`


def write_indices(path: Path, progress: bool) -> None:
    """Writes the index of each split of the build at `path`."""
    for name in split_lengths(path):
        split = Split((Part(path, name),))
        rows: list[Row] = []
        ratios: list[float] = []
        numbers = range(len(split))
        label = f"index {name}"
        for number in tqdm(numbers, label, disable=not progress, file=progress_stream()):
            record = split.read(number)
            objects = record["objects"]
            for mask, area in zip(objects["mask"], objects["area"], strict=True):
                pixels = masks.area(mask, record["height"], record["width"])
                ratios.append(pixels / float(area))
            rows += index_rows(record, number)
        names = [column.name for column in dataclasses.fields(Index)]
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        refs = len(set(columns["ref_id"]))
        # A split without targets, such as a few images of gRefCOCO, has no ratios.
        extremes = (min(ratios), max(ratios)) if ratios else (1.0, 1.0)
        write_index(
            path, name, columns, Counts(len(split), len(ratios), refs, len(rows), *extremes)
        )


def index_rows(record: Record, number: int) -> list[Row]:
    """Returns the columns of `Index` for each sentence of the record `number`."""
    picture = picture_of(record["image"])
    return [_row(record, number, picture, i) for i in range(len(record["sentences"]["sent"]))]


def _row(record: Record, number: int, picture: int, i: int) -> Row:
    objects, sentences, targets = record["objects"], record["sentences"], record["targets"]
    objects_of = targets["object"][targets["sentence"] == i]
    first = int(objects_of[0]) if len(objects_of) else None
    return (
        number,
        i,
        int(sentences["sent_id"][i]),
        int(sentences["ref_id"][i]),
        record["image_id"],
        picture,
        record["height"],
        record["width"],
        len(objects_of),
        masks.area(sentence_mask(record, i), record["height"], record["width"]),
        0 if first is None else int(objects["same_category"][first]),
        "" if first is None else objects["category"][first],
        sentences["sent"][i],
        sentences["kind"][i],
    )
