"""Import of CVAT for images 1.1 (XML) and of CVAT's COCO export."""

import contextlib
from collections import Counter
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from tfds_refcoco.errors import DataError
from tfds_refcoco.importers import common
from tfds_refcoco.importers.coco import read_coco_export
from tfds_refcoco.importers.types import ImportedImage, ImportedObject, Part
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.files import MAX_ANNOTATIONS, RawFile

_WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")
_SHAPES = ("polygon", "mask", "box", "ellipse")


def read_cvat(
    path: Path, image_dir: Path | None, text: str | None, notes: Counter[str]
) -> list[ImportedImage]:
    """Reads an export of CVAT.

    Shapes with the same label and group are parts of one object. An image's subset is its split.

    Args:
      path: annotations.xml, a JSON of the COCO export, or a folder with one of these.
      image_dir: folder of the images; by default the file's folder and its `images` are searched.
      text: name of the attribute with expressions, one per line; by default one of
        `common.TEXT_NAMES`.
      notes: counts of ignored items.

    Raises:
      DataError: a file or field is invalid, or the export contains video tracks.
    """
    if path.is_dir() and (path / "annotations.xml").is_file():
        path = path / "annotations.xml"
    if path.suffix.lower() != ".xml":
        return read_coco_export(path, image_dir, None, text, notes, crowds=False)
    root = _parse(path)
    if root.find("track") is not None:
        raise DataError(f"{path}: this is a video export; export the task as CVAT for images 1.1.")
    roots = [image_dir] if image_dir else [path.parent / "images", path.parent]
    images, names = [], Counter[str]()
    for node in root.iter("image"):
        where = f"{path}: image {node.get('name')}"
        size = _size(node, where)
        name = _required(node, "name", where)
        subset = (node.get("subset") or "").strip()
        split = None if subset.lower() in ("", "default") else subset
        # Project exports have a folder per subset.
        folders = [*(root / subset for root in roots if subset), *roots]
        image = ImportedImage(_find(name, folders, where), f"{subset}/{name}", size, split, where)
        _add_shapes(node, image, text, names, notes)
        images.append(image)
    if not any(image.sentences for image in images):
        listed = ", ".join(names) or "none"
        raise DataError(
            f"{path}: no shape has an attribute {text or ' or '.join(common.TEXT_NAMES)}; existing "
            f"attributes are: {listed}. Specify one with --text."
        )
    return images


def _find(name: str, folders: list[Path], where: str) -> Path:
    """Finds an image; video frames are named without suffix: `frame_000000`."""
    if not PurePosixPath(name).suffix:
        for extension in (".PNG", ".png", ".jpg", ".jpeg"):
            with contextlib.suppress(DataError):
                return common.find_image(name + extension, folders, where)
    return common.find_image(name, folders, where)


def _parse(path: Path) -> ElementTree.Element:
    data = RawFile(path).read(MAX_ANNOTATIONS) if path.is_file() else None
    if data is None:
        raise DataError(f"{path}: no such file or folder.")

    class Builder(ElementTree.TreeBuilder):
        """Refuses doctypes, because entities can expand without bound."""

        def doctype(self, *_: object) -> None:
            raise DataError(
                f"{path}: refused: the file has a doctype, unlike CVAT's exports; export it again."
            )

    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=Builder()))
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: unknown encoding
        raise DataError(f"{path}: not readable XML ({error}); export it again.") from error
    if root.tag != "annotations":
        raise DataError(f"{path}: expected <annotations> of CVAT for images 1.1, got <{root.tag}>.")
    return root


def _add_shapes(
    node: ElementTree.Element,
    image: ImportedImage,
    text: str | None,
    names: Counter[str],
    notes: Counter[str],
) -> None:
    groups: dict[tuple[str, str], int] = {}
    for number, shape in enumerate(node):
        where = f"{image.where}: {shape.tag} {number + 1}"
        if shape.tag in _WITHOUT_AREA:
            notes[f"shapes of the type {shape.tag} were skipped: they have no area"] += 1
            continue
        if shape.tag not in _SHAPES:
            raise DataError(f"{where}: <{shape.tag}> is not a shape of CVAT for images 1.1.")
        label = _required(shape, "label", where)
        group = shape.get("group_id") or "0"
        key = (label, group) if group != "0" else (label, f"shape {number}")
        if key not in groups:
            groups[key] = len(image.objects)
            image.objects.append(ImportedObject([], label, where))
        image.objects[groups[key]].parts.append(_part(shape, where))
        attributes = {
            _required(child, "name", where): (child.text or "") for child in shape.iter("attribute")
        }
        names.update(attributes.keys())
        name = common.text_field(attributes, text)
        if name is not None:
            texts = common.split_texts(attributes[name], where)
            common.add_sentences(image, texts, groups[key], notes)
        if others := len(attributes) - (name is not None):
            notes["attributes of shapes were ignored"] += others


def _part(shape: ElementTree.Element, where: str) -> Part:
    def number(name: str) -> float:
        return _number(shape, name, where)

    degrees = _number(shape, "rotation", where) if shape.get("rotation") else 0.0
    match shape.tag:
        case "polygon":
            points = _required(shape, "points", where)
            try:
                pairs = [[float(v) for v in pair.split(",")] for pair in points.split(";")]
            except ValueError as error:
                raise DataError(f"{where}: points: {error}.") from error
            if any(len(pair) != 2 for pair in pairs):
                raise DataError(f"{where}: points: expected pairs such as 1.5,2;3,4;5,6.")
            return common.polygon(pairs)
        case "box":
            sides = (number("xtl"), number("ytl"), number("xbr"), number("ybr"))
            return common.rectangle(*sides, degrees)
        case "ellipse":
            return common.ellipse(number("cx"), number("cy"), number("rx"), number("ry"), degrees)
    width, height = _size(shape, where)
    try:
        runs = [int(run) for run in _required(shape, "rle", where).split(",")]
    except ValueError as error:
        raise DataError(f"{where}: rle: {error}.") from error
    if min(runs) < 0 or sum(runs) != width * height:
        raise DataError(
            f"{where}: rle: the runs cover {sum(runs)} pixels, but the {width}x{height} mask has "
            f"{width * height}."
        )

    def decode() -> NDArray[np.bool]:
        """Decodes the box row by row; the first run is background."""
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)

    return common.paste(decode, round(number("left")), round(number("top")), where)


def _required(node: ElementTree.Element, name: str, where: str) -> str:
    value = node.get(name)
    if value is None:
        raise DataError(f"{where}: the attribute {name} is missing.")
    return value


def _size(node: ElementTree.Element, where: str) -> tuple[int, int]:
    """Returns width and height in pixels."""
    size = []
    for name in ("width", "height"):
        size.append(fields.side(round(_number(node, name, where)), f"{where}: {name}"))
    return size[0], size[1]


def _number(node: ElementTree.Element, name: str, where: str) -> float:
    value = _required(node, name, where)
    try:
        number = float(value)
    except ValueError as error:
        raise DataError(f"{where}: {name}: {value!r} is not a number.") from error
    if not fields.is_finite(number):
        raise DataError(f"{where}: {name}: {value!r} is not a finite number.")
    return number
