"""Builds the datasets of tfds_refcoco, and opens the part of one that is trained on."""

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
    """Builds a dataset that is not there, if that needs nothing of the user.

    Args:
      name: a dataset of tfds_refcoco; a+b is two.
      folder: of the built datasets.
      raw: folder of the raw files to build from, or None. `shapes` needs none.

    Raises:
      tfds_refcoco.DataError: it is neither built nor can be built; the message says how.
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
      dataset: of the split.
      name: of the split; a+b joins two.
      images: file of image ids, one a line, to train on these images alone; or None.

    Raises:
      tfds_refcoco.DataError: there is no such split, or the file names no image of it.
    """
    split = dataset.split(name)
    if images is None:
        return split
    ids = frozenset(read_ids(images))
    part = Split(tuple(p._replace(only=ids) for p in split.parts))
    if not len(part.index):
        raise DataError(f"{images}: no image of {name} of {dataset.name} is listed there.")
    return part


def describe_joint(dataset: Dataset | JointDataset) -> dict[str, Any]:
    """What each of several sets gives to the training split; nothing where there is one set."""
    if not isinstance(dataset, JointDataset):
        return {}
    sets = {name: dataclasses.asdict(kept) for name, kept in dataset.kept.items()}
    return {"sets": sets, "doubts": dataset.doubts}


def log_joint(described: Mapping[str, Any]) -> None:
    """Logs what `describe_joint` returned: what was left out, and what was not."""
    for name, kept in described.get("sets", {}).items():
        logger.info(
            "%s: %d images, %d sentences trained on; %d and %d left out, as a set holds them out",
            *(name, kept["images"], kept["sentences"]),
            *(kept["dropped_images"], kept["dropped_sentences"]),
        )
    for doubt in described.get("doubts", []):
        logger.warning("%s", doubt)
    warn_of_leaks(described)


def warn_of_leaks(described: Mapping[str, Any]) -> None:
    """Logs how many images were trained on although a set holds them out, if any."""
    if leaked := leaks(described):
        logger.warning("data.allow_leaks: trained on held-out images, %s", leaked)


def leaks(described: Mapping[str, Any]) -> str:
    """Lists the images that were trained on although a set holds them out; "" if none."""
    counts = {k: kept["leaked_images"] for k, kept in described.get("sets", {}).items()}
    return ", ".join(f"{n:,} of {name}" for name, n in counts.items() if n)


def describe_words(words: Sequence[str]) -> dict[str, Any]:
    """Number and hash of the words of a vocabulary."""
    return {"words": len(words), "sha256": hashlib.sha256("\n".join(words).encode()).hexdigest()}


def describe_split(split: Split) -> dict[str, Any]:
    """Counts and a hash of a split's sentences and ids, by which it is recognized."""
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
