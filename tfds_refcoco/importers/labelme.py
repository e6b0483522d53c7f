"""labelme: one JSON file beside each image; a shape's description is its expression."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco.errors import DataError
from tfds_refcoco.importers import common
from tfds_refcoco.importers.types import ImportedImage, ImportedObject, Part
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.coco import read_json
from tfds_refcoco.raw.files import RawFile, find_file


def read_labelme(
    path: Path, image_dir: Path | None, text: str | None, notes: Counter[str]
) -> list[ImportedImage]:
    """Reads a folder of labelme's JSON files, or one of them.

    Shapes of one label and one `group_id` are parts of one object.

    Args:
      path: of the folder, searched at any depth, or of the file.
      image_dir: where images are sought if `imagePath`, which is relative to the JSON, is wrong.
      text: name of the field of a shape that holds expressions, `description` if None; each line
        is an expression.
      notes: counts what is not kept.

    Raises:
      DataError: a file or field is faulty.
    """
    files = common.find_json(path, "**/*.json") if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"{path}: no JSON file of labelme there.")
    return [_image(file, image_dir, text or "description", notes) for file in files]


def _image(file: Path, image_dir: Path | None, text: str, notes: Counter[str]) -> ImportedImage:
    content = read_json(RawFile(file), "fix it")
    where = str(file)
    shapes = fields.field(content, "shapes", list, where)
    name = fields.text(content, "imagePath", where)
    folders = [file.parent, *([image_dir] if image_dir else [])]
    relative = find_file(file.parent, name.replace("\\", "/"))  # such as ../images/a.jpg
    found = relative or common.find_image(name, folders, where)
    assert isinstance(content, dict)
    size = None
    if content.get("imageWidth") is not None:
        size = (
            fields.number(content, "imageWidth", where),
            fields.number(content, "imageHeight", where),
        )
    image = ImportedImage(
        found.resolve(), name if relative is None else str(found.resolve()), size, None, where
    )
    flags = content.get("flags") or {}
    if isinstance(flags, dict) and any(flags.values()):
        notes["flags of images were not kept"] += 1
    groups: dict[tuple[str, str], int] = {}
    for number, shape in enumerate(shapes):
        place = f"{where}: shapes[{number}]"
        label = fields.text(shape, "label", place)
        part = _part(shape, place, notes)
        if part is None:
            continue
        group = shape.get("group_id")
        key = label, f"shape {number}" if group is None else f"group {group}"
        if key not in groups:
            groups[key] = len(image.objects)
            image.objects.append(ImportedObject([], label, place))
        image.objects[groups[key]].parts.append(part)
        texts = common.split_texts(shape.get(text), f"{place}.{text}")
        common.add_sentences(image, texts, groups[key], notes)
        flags = shape.get("flags") or {}
        if not isinstance(flags, dict):
            raise DataError(f"{place}.flags: expected a dictionary.")
        if any(flags.values()):
            notes["flags of shapes were not kept"] += 1
    return image


_POLYGONS = {"polygon", "oriented_rectangle", "rotation"}  # the last is X-AnyLabeling's
_WITHOUT_AREA = {"line", "linestrip", "point", "points"}
_POINTS = {"rectangle": (2, 4), "circle": (2,), "mask": (2,), "oriented_rectangle": (4,)}


def _part(shape: dict[str, Any], where: str, notes: Counter[str]) -> Part | None:
    kind = "polygon"  # files of old versions do not name it
    if shape.get("shape_type") is not None:
        kind = fields.text(shape, "shape_type", where)
    points = fields.field(shape, "points", list, where)
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(map(fields.is_finite, point)):
            raise DataError(f"{where}.points: {point} is no pair of numbers.")
    if len(points) not in _POINTS.get(kind, (len(points),)):
        wanted = " or ".join(map(str, _POINTS[kind]))
        raise DataError(f"{where}.points: {len(points)} points, a {kind} has {wanted}.")
    match kind:
        case _ if kind in _POLYGONS:
            return common.polygon(points)
        case "rectangle":
            if len(points) == 4:  # all corners, as X-AnyLabeling writes them, perhaps tilted
                return common.polygon(points)
            xs, ys = zip(*points, strict=True)
            return common.rectangle(min(xs), min(ys), max(xs), max(ys))
        case "circle":
            (cx, cy), (x, y) = points
            return common.circle(cx, cy, float(np.hypot(x - cx, y - cy)))
        case "mask":
            left, top = (int(value) for value in points[0])  # truncated, as labelme does
            text = fields.text(shape, "mask", where)
            return common.paste(lambda: _mask(text, f"{where}.mask"), left, top, where)
        case _:
            why = "they have no area" if kind in _WITHOUT_AREA else "the type is not known"
            notes[f"shapes of the type {kind} were left out: {why}"] += 1
            return None


def _mask(text: str, where: str) -> NDArray[np.bool]:
    """Decodes the mask of a box: a PNG in base64."""
    values = common.decode_png(text, where)
    if values.ndim != 2:
        raise DataError(f"{where}: expected a PNG with one channel.")
    inside: NDArray[np.bool] = values > 0
    return inside
