"""Reads the raw files of any data set into images, checked field by field."""

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
    """Returns the images of every split of `dataset`, found under the raw folder `root`.

    Splits come in the order of `SPLITS`, images in the order in which the refs first name them.

    Args:
      root: the raw folder, see `sources.py`.
      dataset: a name of `SOURCES`.
      problems: decides about faulty items; the first one is raised if None.
      splits: those wanted, all where empty.
      max_images: the first so many images of each split that are named, faulty ones counted.

    Raises:
      DataError: a file or image is missing, or a field is absent, mistyped or contradictory.
    """
    source = check_dataset(dataset)
    problems = problems or Problems()
    if source is SOURCES["custom"]:
        found = read_custom(root, problems, splits, max_images)
    else:
        found = read_coco(root, source, problems, splits, max_images)
    absent = [name for name in splits if name not in found]
    if absent or not found:
        what = f"no split {absent[0]}" if absent else "no image"
        has = f", it has {', '.join(found)}" if found else ""
        faults = f"; the first fault: {problems.found[0]}" if problems.found else "."
        raise DataError(f"{root}: {dataset} has {what}{has}{faults}")
    return found
