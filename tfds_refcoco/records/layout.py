"""File layout of a built dataset, and its sentence index.

    <out>/tfds_refcoco/<dataset>/3.0.0/     dataset_info.json, features.json, array_record shards
    <out>/tfds_refcoco/<dataset>/3.0.0/index/<split>.json
    <out>/tfds_refcoco/<dataset>/3.0.0/build.json

The index has one row per sentence, so that training starts without scanning the records.
build.json records how the dataset was built: the options, the SHA-256 of the annotation files, and
the skipped items.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.types import SPLITS
from tfds_refcoco.records.types import BuildInfo

NAME = "tfds_refcoco"
VERSION = "3.0.0"
_MOST_RECORDS = 1 << 28  # per shard; a larger number means that the file is damaged
INTEGERS = {
    "record": np.int64,
    "sentence": np.int64,
    "sent_id": np.int64,
    "ref_id": np.int64,
    "image_id": np.int64,
    "picture": np.int64,
    "height": np.int32,
    "width": np.int32,
    "targets": np.int32,
    "area": np.int64,
    "same_category": np.int32,
}
TEXTS = ("category", "text", "kind")


@dataclass(frozen=True, eq=False)
class Index:
    """One row per sentence, in record order; every array has the shape [sentences].

    Attributes:
      record: number of the sentence's record.
      sentence: position among the sentences of that record.
      sent_id: sentence id of the refs file.
      ref_id: ref id of the refs file.
      image_id: image id, in most datasets COCO's.
      picture: hash of the image file's bytes, independent of ids; see `picture_of`.
      height: image height in pixels.
      width: image width in pixels.
      targets: number of objects that the sentence refers to.
      area: area of the union of their masks in pixels.
      same_category: number of annotations in the image with the first target's category, or 0.
      category: category name of the first target, or "".
      text: the cleaned sentence (`sent`).
      kind: the dataset's type of the expression, such as "relation", or "".
    """

    record: NDArray[np.int64]
    sentence: NDArray[np.int64]
    sent_id: NDArray[np.int64]
    ref_id: NDArray[np.int64]
    image_id: NDArray[np.int64]
    picture: NDArray[np.int64]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    targets: NDArray[np.int32]
    area: NDArray[np.int64]
    same_category: NDArray[np.int32]
    category: list[str]
    text: list[str]
    kind: list[str]

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True)
class Counts:
    """Size of a split, and the extremes of (mask pixels) / (COCO's area)."""

    images: int
    objects: int
    refs: int
    sentences: int
    area_ratio_min: float
    area_ratio_max: float


def version_dir(out: Path, dataset: str) -> Path:
    """Returns the folder of the built `dataset` under `out`."""
    return out / NAME / dataset / VERSION


def split_lengths(path: Path) -> dict[str, list[int]]:
    """Returns the number of records in each shard of the build at `path`, by split.

    Raises:
      DataError: dataset_info.json cannot be read.
    """
    try:
        info = json.loads((path / "dataset_info.json").read_text(encoding="utf-8-sig"))
        lengths = {
            split["name"]: [int(n) for n in split.get("shardLengths", [])]
            for split in info["splits"]
        }
        if not lengths or not set(lengths) <= set(SPLITS):
            raise ValueError(f"unexpected splits {list(lengths)}")
        if any(not 0 < n <= _MOST_RECORDS for shards in lengths.values() for n in shards):
            raise ValueError(f"a shard must have 1 to {_MOST_RECORDS:,} records")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path / 'dataset_info.json'}: cannot be read ({error!r}); rebuild with --overwrite."
        ) from error
    return lengths


def missing_files(path: Path) -> list[Path]:
    """Returns the files that are missing from the build at `path`."""
    try:
        lengths = split_lengths(path)
    except DataError:
        return [path / "dataset_info.json"]
    expected = [path / "features.json", build_path(path)]
    for split, shards in lengths.items():
        expected.append(index_path(path, split))
        expected += [shard_path(path, split, i, len(shards)) for i in range(len(shards))]
    return [file for file in expected if not file.is_file()]


def shard_path(path: Path, split: str, number: int, count: int) -> Path:
    """Returns the shard `number` of the `count` shards of a split in the build at `path`."""
    return path / f"{NAME}-{split}.array_record-{number:05d}-of-{count:05d}"


def build_path(path: Path) -> Path:
    """Returns the path of build.json, which records how the dataset at `path` was built."""
    return path / "build.json"


def read_build(path: Path) -> BuildInfo:
    """Returns the content of build.json of the build at `path`.

    Raises:
      DataError: the file is missing or damaged.
    """
    file = build_path(path)
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        kinds = {"options": dict, "annotations": dict, "notes": list, "skipped": list}
        for name, kind in kinds.items():
            if not isinstance(content[name], kind):
                raise TypeError(f"{name} is not a {kind.__name__}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{file}: missing or damaged ({error!r}); rebuild with --overwrite."
        ) from error
    return cast(BuildInfo, content)


def picture_of(data: bytes) -> int:
    """Returns the hash of a picture: the first 64 bits of the SHA-256 of its bytes."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big", signed=True)


def index_path(path: Path, split: str) -> Path:
    """Returns the index file of `split` in the build at `path`."""
    return path / "index" / f"{split}.json"


def write_index(path: Path, split: str, columns: dict[str, list[Any]], counts: Counts) -> None:
    """Writes the sentence index of `split`: the columns of `Index` and the counts."""
    file = index_path(path, split)
    file.parent.mkdir(exist_ok=True)
    ratio = [counts.area_ratio_min, counts.area_ratio_max]
    numbers = {"images": counts.images, "objects": counts.objects, "refs": counts.refs}
    content = columns | numbers | {"area_ratio": ratio}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    file.write_text(text, encoding="utf-8")


def read_index(path: Path, split: str) -> tuple[Index, Counts]:
    """Returns the sentence index of `split` in the build at `path`, and its counts.

    Raises:
      DataError: the index is missing or damaged.
    """
    file = index_path(path, split)
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        texts = {name: content[name] for name in TEXTS}
        text = texts["text"]
        arrays = {name: np.array(content[name], dtype) for name, dtype in INTEGERS.items()}
        least, most = (float(value) for value in content["area_ratio"])
        images, objects, refs = (int(content[name]) for name in ("images", "objects", "refs"))
        counts = Counts(images, objects, refs, len(text), least, most)
        if any(len(column) != len(text) for column in (*texts.values(), *arrays.values())):
            raise ValueError("the columns differ in length")
        if not text or any(set(map(type, column)) != {str} for column in texts.values()):
            raise ValueError(f"{', '.join(TEXTS)}: expected non-empty lists of strings")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{file}: the sentence index is missing or damaged ({error!r}); rebuild with "
            "--overwrite."
        ) from error
    names: dict[str, Any] = texts | arrays
    return Index(**names), counts
