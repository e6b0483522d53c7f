"""Functions for all formats: finding images and text fields, and drawing shapes."""

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tfds_refcoco.errors import DataError
from tfds_refcoco.importers.types import ImportedImage, ImportedSentence
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.coco import read_json
from tfds_refcoco.raw.files import RawFile, find_file

# Common names of fields with sentences; the first match is used.
TEXT_NAMES = (
    *("expression", "expressions", "referring_expression", "referring expression", "sentence"),
    *("sentences", "caption", "captions", "description", "text", "phrase"),
)


def find_json(folder: Path, pattern: str) -> list[Path]:
    """Returns the JSON files of a folder, except those of macOS and of an earlier import."""
    files = sorted(folder.glob(pattern))
    return [file for file in files if not file.name.startswith("._") and not _is_imported(file)]


def _is_imported(file: Path) -> bool:
    """Whether the file is a custom.json, rather than annotations of a picture `custom.jpg`."""
    if file.name != "custom.json" or not file.is_file():
        return False
    content = read_json(RawFile(file), "fix it")
    rows = content.get("images") if isinstance(content, dict) else None
    return isinstance(rows, list) and any("sentences" in r for r in rows if isinstance(r, dict))


def find_image(name: str, folders: Iterable[Path], where: str) -> Path:
    """Returns the path of the image that annotations call `name`.

    Leading folders and drives are dropped one by one, because annotations are often created on
    another machine. Backslashes are treated as slashes.

    Raises:
      DataError: none of the folders contains the image.
    """
    folders = list(dict.fromkeys(folders))
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/"]
    for first in range(len(parts)):
        for folder in folders:
            if path := find_file(folder, "/".join(parts[first:])):
                return path
    listed = ", ".join(map(str, folders))
    raise DataError(f"{where}: image {name!r} is not in {listed}; set --images to its folder.")


def split_texts(value: object, where: str) -> list[str]:
    """Returns the sentences of a field: the items of a list, or the lines of a string."""
    if value is None:
        return []
    if isinstance(value, str):
        value = value.splitlines()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f"{where}: expected a string or a list of strings.")
    for text in value:
        fields.text({"text": text}, "text", where)  # refuses lone surrogates
    return [text.strip() for text in value if text.strip()]


def add_sentences(
    image: ImportedImage, texts: Iterable[str], position: int, notes: Counter[str]
) -> None:
    """Adds the sentences of an object without duplicates, which its parts often repeat."""
    for text in texts:
        sentence = ImportedSentence(text, (position,))
        if sentence in image.sentences:
            notes["duplicate sentences of an object were skipped"] += 1
        else:
            image.sentences.append(sentence)


def text_field(row: Mapping[str, object], name: str | None) -> str | None:
    """Returns the name of the field of `row` with sentences, or None.

    Args:
      row: fields of an object.
      name: name of the field, case-insensitive; by default one of `TEXT_NAMES`.
    """
    lower = {key.lower(): key for key in row}
    names = TEXT_NAMES if name is None else (name.lower(),)
    return next((lower[n] for n in names if n in lower), None)


def note_other_texts(row: Mapping[str, object], name: str | None, notes: Counter[str]) -> None:
    """Counts non-empty fields of `row` other than `name` that are named like text fields."""
    others = [key for key in row if key.lower() in TEXT_NAMES and key != name and row[key]]
    notes["texts of other fields were ignored (choose a field with --text)"] += len(others)


def polygon(points: Sequence[Sequence[float]]) -> list[object]:
    """Returns a COCO segmentation of one polygon of x, y pairs."""
    return [[float(value) for point in points for value in point[:2]]]


def rectangle(
    x0: float, y0: float, x1: float, y1: float, degrees: float = 0.0, pivot: str = "centre"
) -> list[object]:
    """Returns a COCO segmentation of a rectangle.

    Args:
      x0: left side.
      y0: top.
      x1: right side.
      y1: bottom.
      degrees: clockwise rotation angle.
      pivot: center of rotation, "centre" or "corner" (top left).
    """
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)
    centre = corners.mean(0) if pivot == "centre" else corners[0]
    angle = np.radians(degrees)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return polygon(((corners - centre) @ turn + centre).tolist())


def ellipse(
    cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0
) -> Callable[[int, int], NDArray[np.bool]]:
    """Returns a function that draws an ellipse, rotated clockwise, by pixel centers."""

    def draw(height: int, width: int) -> NDArray[np.bool]:
        if not rx or not ry:
            raise DataError(f"an ellipse with radii {rx} and {ry} has no area.")
        rows, columns = np.mgrid[:height, :width] + 0.5
        angle = np.radians(degrees)
        across = (columns - cx) * np.cos(angle) + (rows - cy) * np.sin(angle)
        along = (rows - cy) * np.cos(angle) - (columns - cx) * np.sin(angle)
        inside: NDArray[np.bool] = (across / rx) ** 2 + (along / ry) ** 2 <= 1
        return inside

    return draw


def circle(cx: float, cy: float, radius: float) -> Callable[[int, int], NDArray[np.bool]]:
    """Returns a function that draws a circle with Pillow, as labelme does."""

    def draw(height: int, width: int) -> NDArray[np.bool]:
        if radius > height + width:  # Pillow would take minutes
            raise DataError(f"a circle with radius {radius:g} is larger than the image.")
        picture = Image.new("1", (width, height))
        box = (cx - radius, cy - radius, cx + radius, cy + radius)
        ImageDraw.Draw(picture).ellipse(box, outline=1, fill=1)
        return np.asarray(picture, bool)

    return draw


def decode_png(text: str, where: str) -> NDArray[Any]:
    """Decodes a base64 PNG to `[h, w]` for one channel, else `[h, w, channels]`.

    Raises:
      DataError: the text is not a base64 PNG.
    """
    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            return np.asarray(picture)
    except Exception as error:  # decoders raise any type
        raise DataError(f"{where}: not a base64 PNG ({error}).") from error


def paste(
    decode: Callable[[], NDArray[np.bool]], left: int, top: int, where: str
) -> Callable[[int, int], NDArray[np.bool]]:
    """Returns a function that draws a mask of an image region, clipped to the image.

    Args:
      decode: returns the mask; called late, because the masks of a dataset do not fit in memory.
      left: first column of the mask in the image.
      top: first row of the mask in the image.
      where: location of the mask for error messages.
    """

    def draw(height: int, width: int) -> NDArray[np.bool]:
        mask = decode()
        part = mask[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
        if not part.size:
            raise DataError(f"{where}: the mask at {left}, {top} is outside the image.")
        full = np.zeros((height, width), bool)
        y, x = max(0, top), max(0, left)
        full[y : y + part.shape[0], x : x + part.shape[1]] = part
        return full

    return draw
