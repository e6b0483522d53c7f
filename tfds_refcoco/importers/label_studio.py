"""Import of Label Studio's JSON: polygons, rectangles, ellipses, brushes, bitmasks and texts."""

import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco.errors import DataError
from tfds_refcoco.importers import common
from tfds_refcoco.importers.types import ImportedImage, ImportedObject, Part
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.coco import read_json
from tfds_refcoco.raw.files import RawFile

_GEOMETRY = ("polygon", "rectangle", "ellipse", "brush", "bitmask")
META = "meta"  # value of `text` to read expressions from the notes on regions
_PICTURE = re.compile(r"\.(jpe?g|png|bmp|gif|tiff?|webp)$", re.IGNORECASE)


def read_label_studio(
    path: Path, image_dir: Path | None, text: str | None, notes: Counter[str]
) -> list[ImportedImage]:
    """Reads a JSON export (not JSON-MIN).

    The per-region texts are the expressions. If a task has several annotations, the first one
    that was not cancelled is used.

    Args:
      path: path of the file.
      image_dir: folder of the images; by default the file's folder and its `images` are searched.
      text: name (`from_name`) of the text area with expressions, or META for the notes on regions
        (`meta.text`); by default any text area.
      notes: counts of ignored items.

    Raises:
      DataError: the file or a field is invalid.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; export the project as JSON.")
    tasks = read_json(RawFile(path), "export it again")
    if not isinstance(tasks, list):
        raise DataError(f"{path}: expected a list of tasks; export the project as JSON.")
    folders = [image_dir] if image_dir else [path.parent, path.parent / "images"]
    images = []
    for number, task in enumerate(tasks):
        where = f"{path}: task {task.get('id', number) if isinstance(task, dict) else number}"
        if not isinstance(task, dict) or "annotations" not in task:
            raise DataError(f"{where}: no annotations; export as JSON, not as JSON-MIN or CSV.")
        annotations = fields.field(task, "annotations", list, where)
        if not all(isinstance(annotation, dict) for annotation in annotations):
            raise DataError(f"{where}.annotations: expected a list of dictionaries.")
        kept = [a for a in annotations if not a.get("was_cancelled")]
        if len(kept) != len(annotations):
            notes["cancelled annotations were skipped"] += len(annotations) - len(kept)
        if len(kept) > 1:
            notes["further annotations of a task were skipped"] += len(kept) - 1
        if not kept:
            notes["tasks without annotations were skipped"] += 1
        else:
            path_and_name = _find(fields.field(task, "data", dict, where), folders, where)
            results = fields.field(kept[0], "result", list, where)
            images.append(_image(path_and_name, results, text, where, notes))
    return images


def _find(data: dict[str, Any], folders: list[Path], where: str) -> tuple[Path, str]:
    """Returns the image of a task and its name: a URL, an upload or a local storage file."""
    names = {key: name for key, value in data.items() if (name := _picture_name(value))}
    if len(names) > 1 and "image" not in names:
        raise DataError(
            f"{where}: data: the fields {', '.join(names)} all name pictures; rename the annotated "
            "one to image."
        )
    if not names or ("image" not in names and data.get("image")):
        raise DataError(f"{where}: data: no field names an image, such as image: a.jpg.")
    name = names.get("image") or next(iter(names.values()))
    # Uploads have a prefix of eight hexadecimal digits.
    plain = re.sub(r"^[0-9a-f]{8}-", "", Path(name).name)
    try:
        return common.find_image(name, folders, where), name
    except DataError:
        return common.find_image(plain, folders, where), name


def _picture_name(value: object) -> str | None:
    """Returns the path of a picture in a field of a task, or None."""
    if not isinstance(value, str):
        return None
    try:
        address = urlsplit(value)
    except ValueError:  # an incomplete IPv6 address: the text is not a URL
        return None
    local = parse_qs(address.query).get("d")  # /data/local-files/?d=folder/a.jpg
    name = unquote(local[0] if local else address.path)
    return name if _PICTURE.search(name) else None


def _image(
    path_and_name: tuple[Path, str],
    results: list[Any],
    text: str | None,
    where: str,
    notes: Counter[str],
) -> ImportedImage:
    image = ImportedImage(*path_and_name, None, None, where)
    regions: dict[str, list[dict[str, Any]]] = {}
    shown: set[str] = set()  # names of the image tags
    for number, result in enumerate(results):
        place = f"{where}: result[{number}]"
        if not isinstance(result, dict):
            raise DataError(f"{place}: expected a dictionary.")
        if "id" not in result or "value" not in result:
            notes[f"results of the type {result.get('type')} were ignored"] += 1
            continue
        if result.get("image_rotation"):
            raise DataError(
                f"{place}.image_rotation: the picture was rotated in Label Studio; undo it there."
            )
        regions.setdefault(str(result["id"]), []).append(result | {"where": place})
        if str(result.get("type")).startswith(_GEOMETRY):
            shown.add(str(result.get("to_name")))
    if len(shown) > 1:
        names = ", ".join(sorted(shown))
        raise DataError(f"{where}: regions in several pictures ({names}); create a task for each.")
    for of_region in regions.values():
        _add_region(of_region, image, text, notes)
    return image


def _add_region(
    results: list[dict[str, Any]], image: ImportedImage, text: str | None, notes: Counter[str]
) -> None:
    parts: dict[tuple[str, str], Part] = {}  # geometries are repeated for labels and texts
    label, texts = "", []
    written = list(dict.fromkeys(note for result in results for note in _notes_on(result)))
    if text == META:
        texts += written
    else:
        notes["notes on regions were ignored (read them with --text meta)"] += len(written)
    for result in results:
        kind, place = str(result.get("type", "")), result["where"]
        value = fields.field(result, "value", dict, place)
        geometry = next((name for name in _GEOMETRY if kind.startswith(name)), None)
        labels = value.get(kind if kind.endswith("labels") else "labels")
        if labels:
            names = common.split_texts(labels, f"{place}.value")
            label = names[0] if names else label
            if len(names) > 1:
                notes["further labels of a region were ignored"] += len(names) - 1
        if geometry:
            size = _size(result, place)
            if image.size not in (None, size):
                raise DataError(
                    f"{place}: original size {size} differs from other regions' {image.size}."
                )
            image.size = size
            key = geometry, repr(sorted((k, v) for k, v in value.items() if "labels" not in k))
            parts[key] = _part(geometry, value, size, place)
        elif kind == "textarea":
            if text in (None, result.get("from_name")):
                texts += common.split_texts(value.get("text"), f"{place}.value.text")
            else:
                notes["texts of other text areas were ignored"] += 1
        elif kind != "labels":
            notes[f"results of the type {kind} were ignored"] += 1
    if parts:
        position = len(image.objects)
        image.objects.append(ImportedObject(list(parts.values()), label, results[0]["where"]))
        common.add_sentences(image, texts, position, notes)
    elif texts:
        notes["texts without a region were ignored"] += len(texts)


def _notes_on(result: dict[str, Any]) -> list[str]:
    """Returns the text in the field "meta" of a region, which each of its results repeats."""
    meta = result.get("meta") or {}
    if not isinstance(meta, dict):
        raise DataError(f"{result['where']}.meta: expected a dictionary.")
    return common.split_texts(meta.get("text"), f"{result['where']}.meta.text")


def _size(result: dict[str, Any], where: str) -> tuple[int, int]:
    width, height = (
        fields.side(fields.number(result, name, where), f"{where}.{name}")
        for name in ("original_width", "original_height")
    )
    return width, height


def _part(geometry: str, value: dict[str, Any], size: tuple[int, int], where: str) -> Part:
    """Converts percentages of the image's width and height to pixels."""
    width, height = size

    def pixels(name: str, extent: int) -> float:
        number = fields.field(value, name, (int, float), f"{where}.value")
        if not fields.is_finite(number):
            raise DataError(f"{where}.value.{name}: {number} is not a percentage.")
        return float(number) * extent / 100

    degrees = value.get("rotation") or 0
    if not fields.is_finite(degrees):
        raise DataError(f"{where}.value.rotation: {degrees!r} is not an angle.")
    match geometry:
        case "polygon":
            points = fields.field(value, "points", list, f"{where}.value")
            try:
                pairs = [(float(x) * width / 100, float(y) * height / 100) for x, y in points]
            except (TypeError, ValueError) as error:
                raise DataError(f"{where}.value.points: expected pairs of numbers.") from error
            return common.polygon(pairs)
        case "rectangle":
            x, y = pixels("x", width), pixels("y", height)
            right, bottom = x + pixels("width", width), y + pixels("height", height)
            return common.rectangle(x, y, right, bottom, degrees, pivot="corner")
        case "ellipse":
            x, y = pixels("x", width), pixels("y", height)
            radii = pixels("radiusX", width), pixels("radiusY", height)
            return common.ellipse(x, y, *radii, degrees)
    if geometry == "bitmask":
        return common.paste(lambda: _decode_bitmask(value, size, f"{where}.value"), 0, 0, where)
    if value.get("format") != "rle":
        raise DataError(f"{where}.value.format: expected rle, got {value.get('format')!r}.")
    rle = _read_bytes(value, f"{where}.value")
    return common.paste(lambda: decode_brush(rle, size, where), 0, 0, where)


def _read_bytes(value: dict[str, Any], where: str) -> bytes:
    try:
        return bytes(fields.numbers(value, "rle", where))
    except ValueError as error:
        raise DataError(f"{where}.rle: expected numbers from 0 to 255.") from error


def _decode_bitmask(value: dict[str, Any], size: tuple[int, int], where: str) -> NDArray[np.bool]:
    """Decodes a PNG data URL of the image's size; nontransparent pixels are inside."""
    head, comma, data = fields.text(value, "imageDataURL", where).partition("base64,")
    if not comma or not head.startswith("data:image/png"):
        raise DataError(f"{where}.imageDataURL: expected data:image/png;base64,…")
    pixels = common.decode_png(data, f"{where}.imageDataURL")
    if pixels.shape != (size[1], size[0], 4):
        raise DataError(
            f"{where}.imageDataURL: expected a PNG with alpha and {size[0]}x{size[1]} pixels, got "
            f"shape {pixels.shape}."
        )
    inside: NDArray[np.bool] = pixels[..., 3] > 0
    return inside


def decode_brush(data: bytes, size: tuple[int, int], where: str) -> NDArray[np.bool]:
    """Decodes a brush mask to bool [height, width]; nontransparent pixels are inside.

    The bytes are a bit stream, most significant bit first: number of values (32 bits); bits per
    value minus 1 (5); four length sizes in bits minus 1 (4 each). Then blocks: whether one value
    is repeated (1), index of the length size (2), length minus 1 (of that size), and the value or
    the values. The values are red, green, blue and alpha of each pixel, row by row.

    Raises:
      DataError: the data is damaged, or made for another image size.
    """
    width, height = size
    position = 0  # bits

    def read(count: int) -> int:
        nonlocal position
        first = position
        position += count
        last = -(-position // 8)
        if last > len(data):
            raise DataError(f"{where}.value.rle: the data ends too early; export it again.")
        bits = int.from_bytes(data[first // 8 : last], "big")
        return (bits >> (8 * last - position)) & ((1 << count) - 1)

    total = read(32)
    if total != 4 * width * height:
        raise DataError(
            f"{where}.value.rle: {total} values, but a {width}x{height} image has "
            f"{4 * width * height}."
        )
    value_bits = read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = np.zeros(total, bool)  # whether each value is above 0
    done = 0
    while done < total:
        repeated = read(1)
        end = done + read(sizes[read(2)]) + 1
        if end > total:
            raise DataError(
                f"{where}.value.rle: the data has more values than the image; export it again."
            )
        if repeated:
            values[done:end] = read(value_bits) > 0
        else:
            values[done:end] = [read(value_bits) > 0 for _ in range(end - done)]
        done = end
    alpha: NDArray[np.bool] = values.reshape(height, width, 4)[..., 3]
    return alpha
