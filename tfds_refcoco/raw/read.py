"""Reads and validates the raw files of any dataset."""

from pathlib import Path

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.coco import read_coco
from tfds_refcoco.raw.custom import read_custom
from tfds_refcoco.raw.problems import Problems
from tfds_refcoco.raw.sources import SOURCES, check_dataset
from tfds_refcoco.raw.types import RawSplits


def read_raw(
    root: Path,
    dataset: str,
    problems: Problems | None = None,
    splits: tuple[str, ...] = (),
    max_images: int | None = None,
) -> RawSplits:
    """Returns the images of every split of `dataset` under the raw folder `root`.

    Splits are in the order of `SPLITS`, images in the order of their first ref.

    Args:
      root: the raw folder; see `sources.py`.
      dataset: a name in `SOURCES`.
      problems: handles invalid items; if None, the first error is raised.
      splits: splits to read; all if empty.
      max_images: maximum number of images per split, including invalid ones.

    Raises:
      DataError: a file or image is missing, or a field is missing, mistyped or contradictory.
    """
    source = check_dataset(dataset)
    problems = problems or Problems()
    if source is SOURCES["custom"]:
        images = read_custom(root, problems, splits, max_images)
    else:
        images = read_coco(root, source, problems, splits, max_images)
    absent = [name for name in splits if name not in images]
    if absent or not images:
        what = f"no split {absent[0]}" if absent else "no valid image"
        available = f"; available are {', '.join(images)}" if images else ""
        first = f"; first error: {problems.messages[0]}" if problems.messages else "."
        raise DataError(f"{root}: {dataset} has {what}{available}{first}")
    return images
