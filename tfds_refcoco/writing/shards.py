"""Writes the records of a split to shards, each of them by itself.

They get their final names once all are written: only then is their number known, as a shard whose
every image is left out has no file.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.core.utils import shard_utils

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.problems import Problems
from tfds_refcoco.raw.types import RawImage
from tfds_refcoco.records.record import features, make_record


@dataclasses.dataclass(frozen=True)
class Written:
    """What a shard holds: numbers of records, bytes and gray images, and what was left out."""

    path: Path
    records: int
    bytes: int
    gray: int
    problems: list[str]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A shard to be written."""

    path: Path
    images: Sequence[RawImage]
    skip_bad: bool
    size: int  # of the images, bytes


def plan_shards(
    split: str,
    images: Sequence[RawImage],
    folder: Path,
    config: shard_utils.ShardConfig,
    *,
    skip_bad: bool,
) -> list[Plan]:
    """Divides the images of a split among as many shards as TFDS would make."""
    if not images:
        return []
    sizes = [_size(image) for image in images]
    count = min(len(images), config.get_number_shards(sum(sizes), len(images)))
    bounds = [len(images) * i // count for i in range(count + 1)]
    parts = [slice(start, stop) for start, stop in pairwise(bounds)]
    return [
        Plan(folder / f"{split}-{i:05d}.array_record", images[part], skip_bad, sum(sizes[part]))
        for i, part in enumerate(parts)
    ]


def _size(image: RawImage) -> int:
    try:
        return image.file.size
    except (OSError, DataError):  # said when the image is read
        return 0


def write_shard(plan: Plan, advance: Callable[[], object] = lambda: None) -> Written:
    """Writes a shard and returns what it holds.

    Args:
      plan: the shard.
      advance: called after each image.

    Raises:
      DataError: an item is faulty and is not to be left out.
      OSError: the disk is full, or not writable.
    """
    problems = Problems(plan.skip_bad)
    records = size = grays = 0
    writer = None
    try:
        for image in plan.images:
            with problems.skipping():
                record, gray = make_record(image, problems)
                data = _serialize(record)
                # group_size 1: a record is read without its neighbours.
                writer = writer or ArrayRecordWriter(str(plan.path), "group_size:1")
                writer.write(data)
                records, size, grays = records + 1, size + len(data), grays + gray
            advance()
        if writer is not None:
            writer.close()
    except RuntimeError as error:  # the writer's one error: the system's reason is in its text
        reason = str(error).partition("; writing")[0]
        raise OSError(
            f"out: the records cannot be written: {reason}; give an --out where there is room."
        ) from error
    return Written(plan.path, records, size, grays, problems.found)


def _serialize(record: dict[str, object]) -> bytes:
    """Returns the record as a tf.train.Example, always in the same bytes."""
    schema, serializer = _schema()
    example = serializer.get_tf_example(schema.encode_example(record))
    # Without it the order of the fields changes from process to process.
    data: bytes = example.SerializeToString(deterministic=True)
    return data


@lru_cache(maxsize=1)
def _schema() -> tuple[tfds.features.FeaturesDict, ExampleSerializer]:
    schema = features()
    return schema, ExampleSerializer(schema.get_serialized_info())
