"""One record: an image of a split, its referred objects, and their sentences."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf import json_format

from tfds_refcoco import masks
from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.images import read_image
from tfds_refcoco.raw.problems import Problems
from tfds_refcoco.raw.types import RawImage, RawObject


def features() -> tfds.features.FeaturesDict:
    """Returns the features of a record; docs/data.md describes each of them."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image_id": np.int64,
            "file_name": tfds.features.Text(),
            "height": np.int32,
            "width": np.int32,
            "objects": tfds.features.Sequence(
                {
                    "ann_id": np.int64,
                    "category_id": np.int32,
                    "category": tfds.features.Text(),
                    "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    "area": np.float32,
                    "iscrowd": np.int32,
                    "same_category": np.int32,
                    "mask": tfds.features.Text(),
                }
            ),
            "sentences": tfds.features.Sequence(
                {
                    "sent_id": np.int64,
                    "ref_id": np.int64,
                    "sent": tfds.features.Text(),
                    "raw": tfds.features.Text(),
                    "kind": tfds.features.Text(),
                }
            ),
            # Pairs of a sentence and an object, because TFDS has no sequences of sequences.
            "targets": tfds.features.Sequence({"sentence": np.int32, "object": np.int32}),
        }
    )


def check_features(path: Path) -> None:
    """Compares features.json of the build at `path` with `features`, without importing anything.

    TFDS imports the modules that features.json names; a dataset file must not choose them.

    Raises:
      DataError: the file is unreadable, lacks a feature, or names other features or classes.
    """
    file = path / "features.json"
    try:
        actual = dict(_classes(json.loads(file.read_text(encoding="utf-8-sig"))))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read ({error}); rebuild with --overwrite.") from error
    expected = dict(_classes(json_format.MessageToDict(features().to_proto())))
    for place in sorted(actual.keys() | expected.keys()):
        if actual.get(place) is None:
            raise DataError(
                f"{file}: built by another version: {place or 'a class at the top level'} is "
                "missing; rebuild the dataset with --overwrite."
            )
        if actual[place] != expected.get(place):
            raise DataError(
                f"{file}: refused: {place or 'the top level'} is {actual[place]!r}, not "
                f"{expected.get(place)!r}, and TFDS would import that module; rebuild the dataset "
                "with --overwrite, from raw files that you trust."
            )


def _classes(content: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Yields the path of each class name in features.json, and the name."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == "pythonClassName":
                yield place, value
            else:
                yield from _classes(value, f"{place}.{name}" if place else name)


def make_record(image: RawImage, problems: Problems) -> tuple[dict[str, object], bool]:
    """Returns the features of one record, and whether its image is gray.

    Skips objects with an invalid mask, and their sentences, if `problems` allows it.

    Raises:
      DataError: the image is invalid, or no sentence is left.
    """
    data, gray = read_image(image)
    objects: dict[int, dict[str, object]] = {}
    for number, item in enumerate(image.objects):
        with problems.skipping():
            objects[number] = _object(item, image)
    position = {number: i for i, number in enumerate(objects)}
    sentences = [s for s in image.sentences if all(target in objects for target in s.targets)]
    if not sentences:
        raise DataError(f"{image.where}: the image has no valid sentence.")
    record = {
        "image": data,
        "image_id": image.image_id,
        "file_name": image.file_name,
        "height": image.height,
        "width": image.width,
        "objects": list(objects.values()),
        "sentences": [
            {name: getattr(s, name) for name in ("sent_id", "ref_id", "sent", "raw", "kind")}
            for s in sentences
        ],
        "targets": [
            {"sentence": i, "object": position[target]}
            for i, s in enumerate(sentences)
            for target in s.targets
        ],
    }
    return record, gray


def _object(item: RawObject, image: RawImage) -> dict[str, object]:
    try:
        mask = masks.from_segmentation(item.segmentation, image.height, image.width)
        if not masks.area(mask, image.height, image.width):
            raise DataError("segmentation: contains no pixel of the image.")
    except DataError as error:
        raise DataError(f"{image.where}, annotation id {item.ann_id}: {error}") from error
    return {
        "ann_id": item.ann_id,
        "category_id": item.category_id,
        "category": item.category,
        "bbox": np.array(item.bbox, np.float32),
        "area": item.area,
        "iscrowd": item.iscrowd,
        "same_category": item.same_category,
        "mask": mask,
    }
