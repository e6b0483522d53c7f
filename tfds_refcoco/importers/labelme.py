"""Import of labelme: one JSON file per image; a shape's description is its expression."""

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

    Shapes with the same label and `group_id` are parts of one object.

    Args:
      path: a folder, searched recursively, or a file.
      image_dir: folder of the images, used if `imagePath` (relative to the JSON) does not exist.
      text: name of the shape field with expressions, one per line; by default `description`.
      notes: counts of ignored items.

    Raises:
      DataError: a file or field is invalid.
    """
    files = common.find_json(path, "**/*.json") if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"{path}: no JSON file of labelme.")
    return [_image(file, image_dir, text or "description", notes) for file in files]


def _image(file: Path, image_dir: Path | None, text: str, notes: Counter[str]) -> ImportedImage:
    content = read_json(RawFile(file), "fix it")
    where = str(file)
    shapes = fields.field(content, "shapes", list, where)
    name = fields.text(content, "imagePath", where)
    folders = [file.parent, *([image_dir] if image_dir else [])]
    relative = find_file(file.parent, name.replace("\\", "/"))  # such as ../images/a.jpg
    image_path = relative or common.find_image(name, folders, where)
    assert isinstance(content, dict)
    size = None
    if content.get("imageWidth") is not None:
        size = (
            fields.number(content, "imageWidth", where),
            fields.number(content, "imageHeight", where),
        )
    image = ImportedImage(
        image_path.resolve(),
        name if relative is None else str(image_path.resolve()),
        size,
        None,
        where,
    )
    flags = content.get("flags") or {}
    if isinstance(flags, dict) and any(flags.values()):
        notes["flags of images were ignored"] += 1
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
            notes["flags of shapes were ignored"] += 1
    return image


_POLYGONS = {"polygon", "oriented_rectangle", "rotation"}  # rotation: X-AnyLabeling
_WITHOUT_AREA = {"line", "linestrip", "point", "points"}
_POINTS = {"rectangle": (2, 4), "circle": (2,), "mask": (2,), "oriented_rectangle": (4,)}


def _part(shape: dict[str, Any], where: str, notes: Counter[str]) -> Part | None:
    kind = "polygon"  # old versions do not write shape_type
    if shape.get("shape_type") is not None:
        kind = fields.text(shape, "shape_type", where)
    points = fields.field(shape, "points", list, where)
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(map(fields.is_finite, point)):
            raise DataError(f"{where}.points: {point} is not a pair of numbers.")
    if len(points) not in _POINTS.get(kind, (len(points),)):
        wanted = " or ".join(map(str, _POINTS[kind]))
        raise DataError(f"{where}.points: a {kind} has {wanted} points, got {len(points)}.")
    match kind:
        case _ if kind in _POLYGONS:
            return common.polygon(points)
        case "rectangle":
            if len(points) == 4:  # all corners, possibly rotated, as written by X-AnyLabeling
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
            why = "they have no area" if kind in _WITHOUT_AREA else "the type is unknown"
            notes[f"shapes of the type {kind} were skipped: {why}"] += 1
            return None


def _mask(text: str, where: str) -> NDArray[np.bool]:
    """Decodes the mask of a box from a base64 PNG."""
    values = common.decode_png(text, where)
    if values.ndim != 2:
        raise DataError(f"{where}: expected a PNG with one channel.")
    inside: NDArray[np.bool] = values > 0
    return inside
