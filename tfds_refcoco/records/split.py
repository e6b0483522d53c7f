"""Random access to the records of splits, and their sentence index."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco.errors import DataError
from tfds_refcoco.records.layout import (
    INTEGERS,
    TEXTS,
    Counts,
    Index,
    read_index,
    shard_path,
    split_lengths,
)
from tfds_refcoco.records.types import Record


class Part(NamedTuple):
    """A split of a built dataset, or the sentences of some of its images.

    Attributes:
      path: folder of the build.
      name: name of the split.
      only: if set, the index contains only the sentences of these image ids.
    """

    path: Path
    name: str
    only: frozenset[int] | None = None

    @property
    def dataset(self) -> str:
        """The name of the dataset."""
        return self.path.parent.name


class Split:
    """One split or the concatenation of several. Use `Dataset.split` to create one.

    Thread-safe. Pickling stores only the parts; unpickling opens them again.

    Args:
      parts: the parts in order.
      opened: open splits of single parts, whose indices are reused.
    """

    def __init__(self, parts: tuple[Part, ...], opened: Sequence["Split"] = ()) -> None:
        # Imported here, so that importing the package does not import tensorflow-datasets.
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        from tfds_refcoco.records.example import decode_example
        from tfds_refcoco.records.record import check_features

        self.parts = parts
        self._opened = {s.parts[0][:2]: s for s in opened if len(s.parts) == 1}
        self.datasets = tuple(dict.fromkeys(part.dataset for part in parts))
        lengths = {}
        for path in dict.fromkeys(part.path for part in parts):
            check_features(path)
            lengths[path] = split_lengths(path)
        shards = [_shards(path, name, lengths[path][name]) for path, name, _ in parts]
        # TFDS would trust features.json, and its feature decoding takes half the time of a read.
        self._sources = [ArrayRecordDataSource(of_part) for of_part in shards]
        self._decode = decode_example
        sizes = [sum(shard.take for shard in of_part) for of_part in shards]
        self._offsets = [0, *itertools.accumulate(sizes)]

    def __len__(self) -> int:
        """Returns the number of records, one per image and split, even if not in the index."""
        return self._offsets[-1]

    def __reduce__(self) -> tuple[type["Split"], tuple[tuple[Part, ...]]]:
        return Split, (self.parts,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts, prefixed with the dataset if there are several: `refcoco_unc/val`."""
        several = len(self.datasets) > 1
        return tuple(f"{p.dataset}/{p.name}" if several else p.name for p in self.parts)

    def record(self, number: int) -> Record:
        """Returns a record with its JPEG undecoded; `Record` describes the fields.

        If the index is loaded, the record is compared with it.

        Args:
          number: from 0 to `len(self)` - 1.

        Raises:
          DataError: the record cannot be read, or differs from the index.
        """
        record = self.read(number)
        if "_index_and_counts" in self.__dict__:
            self._compare(record, number)
        return record

    def read(self, number: int) -> Record:
        """Returns a record without comparing it with the index."""
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        part = self._part_of(number)
        try:
            return self._decode(self._sources[part][int(number) - self._offsets[part]])
        except Exception as error:  # array_record and protobuf raise many types
            reason = str(error).partition("\n")[0]
            raise DataError(
                f"{self._place(number)} cannot be read ({reason}); rebuild with --overwrite."
            ) from error

    def _part_of(self, number: int) -> int:
        return int(np.searchsorted(self._offsets, number, side="right")) - 1

    def _place(self, number: int) -> str:
        part = self._part_of(number)
        path, name, _ = self.parts[part]
        return f"{path}: record {number - self._offsets[part]} of {name}"

    def _compare(self, record: Record, number: int) -> None:
        """Raises DataError if the record differs from the index."""
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
            f"{self._place(number)}, image id {record['image_id']}, does not match the sentence "
            "index: the dataset was rebuilt while it was read, or a file is damaged. Restart the "
            "command; if the error persists, rebuild with --overwrite."
        )

    @property
    def index(self) -> Index:
        """The sentences. Record numbers are offset by part, and ref ids by dataset."""
        return self._index_and_counts[0]

    @property
    def counts(self) -> Counts:
        """Counts, summed over the parts.

        `objects` counts the objects of all records, even if the index contains only some images.
        """
        return self._index_and_counts[1]

    @property
    def image(self) -> NDArray[np.int64]:
        """Int `[sentences]`: the first record with the sentence's picture, compared by bytes."""
        _, first, inverse = np.unique(self.index.picture, return_index=True, return_inverse=True)
        image: NDArray[np.int64] = self.index.record[first][inverse]
        return image

    @property
    def dataset(self) -> NDArray[np.intp]:
        """Int `[sentences]`: the position of the sentence's dataset in `datasets`."""
        of_part = np.array([self.datasets.index(part.dataset) for part in self.parts])
        positions: NDArray[np.intp] = of_part[
            np.searchsorted(self._offsets, self.index.record, side="right") - 1
        ]
        return positions

    @cached_property
    def _index_and_counts(self) -> tuple[Index, Counts]:
        columns: dict[str, Any] = {name: [] for name in (*INTEGERS, *TEXTS)}
        all_counts, refs = [], 0
        for part, start, end in zip(self.parts, self._offsets, self._offsets[1:], strict=False):
            opened = self._opened.get(part[:2])
            if opened is None or opened.parts[0].only is not None:
                index, counts = read_index(part.path, part.name)
            else:
                index, counts = opened.index, opened.counts
            _check_numbers(part, index.record, end - start)
            kept = np.ones(len(index), bool)
            if part.only is not None:
                kept = np.isin(index.image_id, list(part.only))
            for name in INTEGERS:
                columns[name].append(getattr(index, name)[kept])
            for name in TEXTS:
                texts = getattr(index, name)
                columns[name] += itertools.compress(texts, kept.tolist())
            columns["record"][-1] = columns["record"][-1] + start
            all_counts.append(counts)
            of_part = columns["ref_id"][-1]
            refs += counts.refs if part.only is None else len(np.unique(of_part))
        first = 0
        for dataset in self.datasets:
            own = [i for i, part in enumerate(self.parts) if part.dataset == dataset]
            last = max(int(columns["ref_id"][i].max(initial=-1)) for i in own)
            for i in own:
                columns["ref_id"][i] = columns["ref_id"][i] + first
            first += last + 1
        columns |= {name: np.concatenate(columns[name]) for name in INTEGERS}
        index = Index(**columns)
        # Some datasets share images between splits; ids are not comparable between datasets.
        image = index.image_id if len(self.datasets) == 1 else index.picture
        return index, Counts(
            images=len(np.unique(image)),
            objects=sum(counts.objects for counts in all_counts),
            refs=refs,
            sentences=len(index),
            area_ratio_min=min(counts.area_ratio_min for counts in all_counts),
            area_ratio_max=max(counts.area_ratio_max for counts in all_counts),
        )


def _check_numbers(part: Part, record: NDArray[np.int64], length: int) -> None:
    """Raises DataError unless the index has rows for each record, in order."""
    new = record[np.flatnonzero(np.diff(record, prepend=record[0] - 1))]
    if len(new) != length or new[0] != 0 or (np.diff(new) != 1).any():
        raise DataError(
            f"{part.path}: the sentence index of {part.name} is damaged: it names {len(new)} "
            f"records, but there are {length}; rebuild with --overwrite."
        )


@dataclass(frozen=True)
class _Shard:
    """A shard with its length, so that ArrayRecordDataSource need not open it to count records."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def _shards(path: Path, split: str, lengths: list[int]) -> list[_Shard]:
    names = [shard_path(path, split, i, len(lengths)) for i in range(len(lengths))]
    return [_Shard(str(name), 0, n, n) for name, n in zip(names, lengths, strict=True)]
