"""Reads a built data set: random access to records, and the sentence index."""

import itertools
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
    Counts,
    Index,
    missing_files,
    read_index,
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
        import tensorflow_datasets as tfds
        from tensorflow_datasets.proto import tf_example_pb2

        self.path, self.names, self.only = path, names, only
        builder = tfds.builder_from_directory(path)
        # Bytes of each record: TFDS's own reading of the features takes half the time of a read.
        self._sources = [builder.as_data_source(name).data_source for name in names]
        self._parse = tf_example_pb2.Example.FromString
        lengths = split_lengths(path)
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

        Args:
          number: from 0 to `len(self)` - 1.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        part = int(np.searchsorted(self._offsets, number, side="right")) - 1
        data = self._sources[part][int(number) - self._offsets[part]]
        feature = self._parse(data).features.feature

        def int32(name: str) -> NDArray[np.int32]:
            return np.array(feature[name].int64_list.value, np.int32)

        def int64(name: str) -> NDArray[np.int64]:
            return np.array(feature[name].int64_list.value, np.int64)

        def float32(name: str) -> NDArray[np.float32]:
            return np.array(feature[name].float_list.value, np.float32)

        def texts(name: str) -> list[str]:
            return [text.decode() for text in feature[name].bytes_list.value]

        return {
            "image": feature["image"].bytes_list.value[0],
            "image_id": feature["image_id"].int64_list.value[0],
            "file_name": texts("file_name")[0],
            "height": feature["height"].int64_list.value[0],
            "width": feature["width"].int64_list.value[0],
            "objects": {
                "ann_id": int64("objects/ann_id"),
                "category_id": int32("objects/category_id"),
                "category": texts("objects/category"),
                "bbox": float32("objects/bbox").reshape(-1, 4),
                "area": float32("objects/area"),
                "iscrowd": int32("objects/iscrowd"),
                "same_category": int32("objects/same_category"),
                "mask": list(feature["objects/mask"].bytes_list.value),
            },
            "sentences": {
                "sent_id": int64("sentences/sent_id"),
                "ref_id": int64("sentences/ref_id"),
                "sent": texts("sentences/sent"),
                "raw": texts("sentences/raw"),
            },
            "targets": {
                "sentence": int32("targets/sentence"),
                "object": int32("targets/object"),
            },
        }

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
        for name in ("category", "text"):
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
        raise DataError(f"{missing[0]}: missing. Build again:\n  {command} --overwrite")
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
    """
    targets = record["targets"]["object"][record["targets"]["sentence"] == sentence]
    parts = [record["objects"]["mask"][target] for target in targets]
    return masks.union(parts, record["height"], record["width"])
