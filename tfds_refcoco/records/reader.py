"""Reads a built data set: random access to records, and the sentence index."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco import masks
from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.sources import check_dataset
from tfds_refcoco.records.layout import (
    INTEGERS,
    NAME,
    TEXTS,
    Counts,
    Index,
    missing_files,
    read_index,
    shard_path,
    split_lengths,
    version_dir,
)
from tfds_refcoco.records.types import Record


class Split:
    """One split, or several in a row. Made by `Dataset.split`.

    Safe to read from many threads. Pickles as its arguments, and is opened again on arrival.

    Args:
      path: of the built set.
      names: of the splits.
      only: ids of images; the index then holds the sentences of these alone.
    """

    def __init__(
        self, path: Path, names: tuple[str, ...], only: frozenset[int] | None = None
    ) -> None:
        # Late, so that importing the package does not import tensorflow-datasets.
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        from tfds_refcoco.records.example import decode_example
        from tfds_refcoco.records.record import check_features

        self.path, self.names, self.only = path, names, only
        check_features(path)
        lengths = split_lengths(path)
        # Not by TFDS, which would believe features.json, and whose own reading of the features
        # takes half the time of a read.
        self._sources = [ArrayRecordDataSource(_shards(path, n, lengths[n])) for n in names]
        self._decode = decode_example
        self._offsets = [0, *itertools.accumulate(sum(lengths[name]) for name in names)]

    def __len__(self) -> int:
        """Returns the number of records, one per image and split, whatever the index holds."""
        return self._offsets[-1]

    def __reduce__(
        self,
    ) -> tuple[type["Split"], tuple[Path, tuple[str, ...], frozenset[int] | None]]:
        return Split, (self.path, self.names, self.only)

    def record(self, number: int) -> Record:
        """Returns a record, its JPEG undecoded; `Record` describes its fields.

        If the index was read, the record must be the one that it describes.

        Args:
          number: from 0 to `len(self)` - 1.

        Raises:
          DataError: the record cannot be read, or the index describes another one.
        """
        record = self.read(number)
        if "_index_and_counts" in self.__dict__:
            self._compare(record, number)
        return record

    def read(self, number: int) -> Record:
        """Returns a record as `record` does, and does not compare it with the index."""
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        part = int(np.searchsorted(self._offsets, number, side="right")) - 1
        try:
            return self._decode(self._sources[part][int(number) - self._offsets[part]])
        except Exception as error:  # array_record's and protobuf's own are of many kinds
            reason = str(error).partition("\n")[0]
            raise DataError(
                f"{self.path}: record {number} of {'+'.join(self.names)} cannot be read "
                f"({reason}); build again with --overwrite."
            ) from error

    def _compare(self, record: Record, number: int) -> None:
        """Raises DataError if the index describes another record than this one."""
        index, sentences = self.index, record["sentences"]
        rows = slice(*np.searchsorted(index.record, (number, number + 1)).tolist())
        place = index.sentence[rows]
        if (
            (index.image_id[rows] == record["image_id"]).all()
            and (not len(place) or 0 <= place.min() <= place.max() < len(sentences["sent"]))
            and np.array_equal(index.sent_id[rows], sentences["sent_id"][place])
            and index.text[rows] == [sentences["sent"][i] for i in place]
        ):
            return
        raise DataError(
            f"{self.path}: record {number} of {'+'.join(self.names)}, image id "
            f"{record['image_id']}, is not the one that the sentence index describes: the data set "
            "was built anew while it was read, or a file is damaged. Start again, and if it says "
            "the same, build again with --overwrite."
        )

    @property
    def index(self) -> Index:
        """The sentences of the split; record numbers run on over several splits."""
        return self._index_and_counts[0]

    @property
    def counts(self) -> Counts:
        """Numbers of what is there, summed over several splits.

        `objects` counts those of all records, also where the index holds some images alone.
        """
        return self._index_and_counts[1]

    @cached_property
    def _index_and_counts(self) -> tuple[Index, Counts]:
        parts = [read_index(self.path, name) for name in self.names]
        starts = self._offsets[:-1]
        shifted = [part.record + start for (part, _), start in zip(parts, starts, strict=True)]
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part, _ in parts]) for name in INTEGERS
        }
        columns["record"] = np.concatenate(shifted)
        self._check_numbers(columns["record"])
        for name in TEXTS:
            columns[name] = [line for part, _ in parts for line in getattr(part, name)]
        all_counts = [counts for _, counts in parts]
        refs = sum(counts.refs for counts in all_counts)
        if self.only is not None:
            kept = np.flatnonzero(np.isin(columns["image_id"], list(self.only)))
            for name, column in columns.items():
                columns[name] = column[kept] if name in INTEGERS else [column[i] for i in kept]
            refs = len(np.unique(columns["ref_id"]))
        index = Index(**columns)
        return index, Counts(
            images=len(np.unique(columns["image_id"])),  # some sets share images between splits
            objects=sum(counts.objects for counts in all_counts),
            refs=refs,
            sentences=len(index),
            area_ratio_min=min(counts.area_ratio_min for counts in all_counts),
            area_ratio_max=max(counts.area_ratio_max for counts in all_counts),
        )

    def _check_numbers(self, record: NDArray[np.int64]) -> None:
        """Raises DataError unless there are rows of each record, in order."""
        new = record[np.flatnonzero(np.diff(record, prepend=record[0] - 1))]
        if len(new) != len(self) or new[0] != 0 or (np.diff(new) != 1).any():
            raise DataError(
                f"{self.path}: the sentence index of {'+'.join(self.names)} names {len(new)} "
                f"records, there are {len(self)}: it is damaged; build again with --overwrite."
            )


@dataclass(frozen=True)
class _Shard:
    """A shard as ArrayRecordDataSource takes it, which then need not open it to count."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def _shards(path: Path, split: str, lengths: list[int]) -> list[_Shard]:
    names = [shard_path(path, split, i, len(lengths)) for i in range(len(lengths))]
    return [_Shard(str(name), 0, n, n) for name, n in zip(names, lengths, strict=True)]


class Dataset:
    """A built data set. Made by `open_dataset`."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.splits: tuple[str, ...] = tuple(split_lengths(path))
        self._opened: dict[tuple[str, ...], Split] = {}

    def split(self, name: str) -> Split:
        """Returns the split `name`; `a+b` is the records of a, then those of b.

        Raises:
          DataError: no split of that name was built, or one is named twice.
        """
        names = tuple(part.strip() for part in name.split("+"))
        unknown = [part for part in names if part not in self.splits]
        if unknown:
            raise DataError(
                f"split: {self.name} has no split {unknown[0]!r}, it has {', '.join(self.splits)}."
            )
        if len(set(names)) < len(names):
            raise DataError(f"split: {name!r} names a split twice.")
        if names not in self._opened:  # its index is large: read once, however often asked for
            self._opened[names] = Split(self.path, names)
        return self._opened[names]


def open_dataset(data_dir: Path, dataset: str) -> Dataset:
    """Opens the set `dataset` that `build` wrote to `data_dir`.

    Args:
      data_dir: the `--out` of the build, or the `tfds_refcoco` folder in it.
      dataset: a name such as `refcoco_unc`.

    Raises:
      DataError: no such set is known, or it is not there or not whole; the message then holds
        the command that builds it.
    """
    check_dataset(dataset)
    tried = [version_dir(data_dir, dataset)]
    out = data_dir
    if data_dir.name == NAME:
        out = data_dir.parent
        tried.append(version_dir(out, dataset))
    command = _build_command(dataset, out)
    found = next((path for path in tried if path.is_dir()), None)
    if found is None:
        listed = "\n".join(f"  {path}" for path in tried)
        raise DataError(
            f"dataset: {dataset} is not built. Looked in:\n{listed}\nBuild it:\n  {command}"
        )
    if missing := missing_files(found):
        raise DataError(f"{missing[0]}: missing or damaged. Build again:\n  {command} --overwrite")
    return Dataset(found, dataset)


def _build_command(dataset: str, out: Path) -> str:
    source = "" if dataset == "shapes" else "--raw RAW_DIR "
    return f"python -m tfds_refcoco build --dataset {dataset} {source}--out {out}"


def sentence_mask(record: Record, sentence: int) -> bytes:
    """Returns what a sentence of a record refers to as RLE counts, see `masks.decode`.

    The union of its targets; empty where it has none.

    Args:
      record: as `Split.record` returns it.
      sentence: position in `record["sentences"]`.

    Raises:
      DataError: a target is no object of the record, or a mask of several is malformed.
    """
    targets = record["targets"]["object"][record["targets"]["sentence"] == sentence]
    if len(targets) and not 0 <= targets.min() <= targets.max() < len(record["objects"]["mask"]):
        raise DataError(f"image id {record['image_id']}: a target is no object of the record.")
    parts = [record["objects"]["mask"][target] for target in targets]
    return masks.union(parts, record["height"], record["width"])
