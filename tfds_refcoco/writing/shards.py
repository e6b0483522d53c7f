"""Writes the records of a split to independent shards.

Shards get their final names after all are written. Their number is not known earlier, because a
shard whose images are all skipped has no file.
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
    """A written shard: numbers of records, bytes and gray images, and errors of skipped items."""

    path: Path
    records: int
    bytes: int
    gray: int
    problems: list[str]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A shard to write."""

    path: Path
    images: Sequence[RawImage]
    skip_bad: bool
    size: int  # total size of the image files in bytes


def plan_shards(
    split: str,
    images: Sequence[RawImage],
    folder: Path,
    config: shard_utils.ShardConfig,
    *,
    skip_bad: bool,
) -> list[Plan]:
    """Divides the images of a split into as many shards as TFDS would use."""
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
    except (OSError, DataError):  # reported when the image is read
        return 0


def write_shard(plan: Plan, advance: Callable[[], object] = lambda: None) -> Written:
    """Writes a shard.

    Args:
      plan: the shard to write.
      advance: called after each image.

    Raises:
      DataError: an item is invalid and not skipped.
      OSError: the disk is full or not writable.
    """
    problems = Problems(plan.skip_bad)
    records = size = grays = 0
    writer = None
    try:
        for image in plan.images:
            with problems.skipping():
                record, gray = make_record(image, problems)
                data = _serialize(record)
                # group_size 1: allows reading single records.
                writer = writer or ArrayRecordWriter(str(plan.path), "group_size:1")
                writer.write(data)
                records, size, grays = records + 1, size + len(data), grays + gray
            advance()
        if writer is not None:
            writer.close()
    except RuntimeError as error:  # the writer's only error type; the text has the system's reason
        reason = str(error).partition("; writing")[0]
        raise OSError(
            f"out: the records cannot be written: {reason}; choose an --out with enough space."
        ) from error
    return Written(plan.path, records, size, grays, problems.messages)


def _serialize(record: dict[str, object]) -> bytes:
    """Serializes a record to a tf.train.Example, deterministically."""
    schema, serializer = _schema()
    example = serializer.get_tf_example(schema.encode_example(record))
    # Otherwise the order of the fields varies between processes.
    data: bytes = example.SerializeToString(deterministic=True)
    return data


@lru_cache(maxsize=1)
def _schema() -> tuple[tfds.features.FeaturesDict, ExampleSerializer]:
    schema = features()
    return schema, ExampleSerializer(schema.get_serialized_info())
