"""Builds the datasets of tfds_refcoco and opens the split to train on."""

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tfds_refcoco
from tfds_refcoco import DataError
from tfds_refcoco.records.imagelists import read_ids
from tfds_refcoco.records.joint import JointDataset
from tfds_refcoco.records.reader import Dataset
from tfds_refcoco.records.split import Split

logger = logging.getLogger(__name__)


def build_if_missing(name: str, folder: Path, raw: Path | None) -> None:
    """Builds a missing dataset if all its inputs are available.

    Args:
      name: a dataset of tfds_refcoco; a+b is two datasets.
      folder: directory of the built datasets.
      raw: directory of the raw files to build from, or None. `shapes` needs no raw files.

    Raises:
      tfds_refcoco.DataError: the dataset is missing and cannot be built; the message says how to
        build it.
    """
    for part in map(str.strip, name.split("+")):
        try:
            tfds_refcoco.open_dataset(folder, part)
        except DataError:
            if part != "shapes" and raw is None:
                raise
            tfds_refcoco.build(part, folder, raw)


def open_train_split(dataset: Dataset | JointDataset, name: str, images: Path | None) -> Split:
    """Returns the split to train on.

    Args:
      dataset: dataset of the split.
      name: name of the split; a+b joins two splits.
      images: file of image ids to train on, one per line; None for all images.

    Raises:
      tfds_refcoco.DataError: the split does not exist, or the file lists none of its images.
    """
    split = dataset.split(name)
    if images is None:
        return split
    ids = frozenset(read_ids(images))
    part = Split(tuple(p._replace(only=ids) for p in split.parts))
    if not len(part.index):
        raise DataError(f"{images}: lists no image of {name} of {dataset.name}; check the ids.")
    return part


def describe_joint(dataset: Dataset | JointDataset) -> dict[str, Any]:
    """Counts what each of several datasets contributes to training; empty for a single dataset."""
    if not isinstance(dataset, JointDataset):
        return {}
    sets = {name: dataclasses.asdict(kept) for name, kept in dataset.kept.items()}
    return {"sets": sets, "doubts": dataset.doubts}


def log_joint(described: Mapping[str, Any]) -> None:
    """Logs the result of `describe_joint`: excluded images, and possible leaks."""
    for name, kept in described.get("sets", {}).items():
        logger.info(
            "%s: training on %d images, %d sentences; excluded %d and %d held out by a dataset",
            *(name, kept["images"], kept["sentences"]),
            *(kept["dropped_images"], kept["dropped_sentences"]),
        )
    for doubt in described.get("doubts", []):
        logger.warning("%s", doubt)
    warn_of_leaks(described)


def warn_of_leaks(described: Mapping[str, Any]) -> None:
    """Logs a warning with the number of held-out images in the training data, if any."""
    if leaked := leaks(described):
        logger.warning("data.allow_leaks: the training data has held-out images: %s", leaked)


def leaks(described: Mapping[str, Any]) -> str:
    """Lists the number of held-out images in the training data per dataset; "" if none."""
    counts = {k: kept["leaked_images"] for k, kept in described.get("sets", {}).items()}
    return ", ".join(f"{n:,} of {name}" for name, n in counts.items() if n)


def describe_words(words: Sequence[str]) -> dict[str, Any]:
    """Returns the number and the hash of a vocabulary's words."""
    return {"words": len(words), "sha256": hashlib.sha256("\n".join(words).encode()).hexdigest()}


def describe_split(split: Split) -> dict[str, Any]:
    """Returns counts and a hash of a split's sentences and ids, which identify the split."""
    index, digest = split.index, hashlib.sha256()
    for ids in (index.sent_id, index.ref_id, index.image_id, index.height, index.width):
        digest.update(ids.astype("<i8").tobytes())
    digest.update("\n".join(index.text).encode())
    counts = split.counts
    return {
        "images": counts.images,
        "refs": counts.refs,
        "sentences": counts.sentences,
        "sha256": digest.hexdigest(),
    }
