"""What all formats share: where images are, which field holds sentences, how shapes are drawn."""

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

# Names of fields that people keep sentences in, the first one found is taken.
TEXT_NAMES = (
    *("expression", "expressions", "referring_expression", "referring expression", "sentence"),
    *("sentences", "caption", "captions", "description", "text", "phrase"),
)


def find_json(folder: Path, pattern: str) -> list[Path]:
    """Returns JSON files of a folder, without those that macOS or an import before left there."""
    files = sorted(folder.glob(pattern))
    return [file for file in files if not file.name.startswith("._") and not _is_imported(file)]


def _is_imported(file: Path) -> bool:
    """Whether it is a custom.json, and no annotations of a picture `custom.jpg`."""
    if file.name != "custom.json" or not file.is_file():
        return False
    content = read_json(RawFile(file), "fix it")
    rows = content.get("images") if isinstance(content, dict) else None
    return isinstance(rows, list) and any("sentences" in r for r in rows if isinstance(r, dict))


def find_image(name: str, folders: Iterable[Path], where: str) -> Path:
    """Returns the image that annotations call `name`.

    Folders and drives before the name are dropped one by one, as annotations are often made on
    another machine; backslashes count as slashes.

    Raises:
      DataError: it is in none of the folders.
    """
    folders = list(dict.fromkeys(folders))
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/"]
    for first in range(len(parts)):
        for folder in folders:
            if path := find_file(folder, "/".join(parts[first:])):
                return path
    looked = ", ".join(map(str, folders))
    raise DataError(f"{where}: the image {name!r} is not in {looked}; give --images its folder.")


def split_texts(value: object, where: str) -> list[str]:
    """Returns the sentences in a field: those of a list, or the lines of a text."""
    if value is None:
        return []
    if isinstance(value, str):
        value = value.splitlines()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f"{where}: expected a text or a list of texts.")
    for text in value:
        fields.text({"text": text}, "text", where)  # half of a surrogate pair is no text
    return [text.strip() for text in value if text.strip()]


def add_sentences(
    image: ImportedImage, texts: Iterable[str], position: int, notes: Counter[str]
) -> None:
    """Adds what is said of one object; the parts of an object often repeat it."""
    for text in texts:
        sentence = ImportedSentence(text, (position,))
        if sentence in image.sentences:
            notes["sentences that an object has twice were kept once"] += 1
        else:
            image.sentences.append(sentence)


def text_field(row: Mapping[str, object], name: str | None) -> str | None:
    """Returns the name of the field of `row` that holds sentences, None if there is none.

    Args:
      row: fields of an object.
      name: of the field, one of `TEXT_NAMES` if None; upper and lower case are the same.
    """
    lower = {key.lower(): key for key in row}
    names = TEXT_NAMES if name is None else (name.lower(),)
    return next((lower[n] for n in names if n in lower), None)


def note_other_texts(row: Mapping[str, object], name: str | None, notes: Counter[str]) -> None:
    """Counts the fields of `row` beside `name` that hold sentences as well, by their names."""
    others = [key for key in row if key.lower() in TEXT_NAMES and key != name and row[key]]
    notes["texts of other fields were not kept (--text names the one to take)"] += len(others)


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
      degrees: it is turned by, clockwise as seen.
      pivot: what it is turned about, "centre" or "corner" (the top left one).
    """
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)
    centre = corners.mean(0) if pivot == "centre" else corners[0]
    angle = np.radians(degrees)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return polygon(((corners - centre) @ turn + centre).tolist())


def ellipse(
    cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0
) -> Callable[[int, int], NDArray[np.bool]]:
    """Returns what draws an ellipse: pixels whose centres are inside; turned clockwise."""

    def draw(height: int, width: int) -> NDArray[np.bool]:
        if not rx or not ry:
            raise DataError(f"an ellipse with the radii {rx} and {ry} has no area.")
        rows, columns = np.mgrid[:height, :width] + 0.5
        angle = np.radians(degrees)
        across = (columns - cx) * np.cos(angle) + (rows - cy) * np.sin(angle)
        along = (rows - cy) * np.cos(angle) - (columns - cx) * np.sin(angle)
        inside: NDArray[np.bool] = (across / rx) ** 2 + (along / ry) ** 2 <= 1
        return inside

    return draw


def circle(cx: float, cy: float, radius: float) -> Callable[[int, int], NDArray[np.bool]]:
    """Returns what draws a circle as labelme does, with Pillow."""

    def draw(height: int, width: int) -> NDArray[np.bool]:
        if radius > height + width:  # Pillow goes along all of it, for minutes
            raise DataError(f"a circle with the radius {radius:g} is larger than the image.")
        picture = Image.new("1", (width, height))
        box = (cx - radius, cy - radius, cx + radius, cy + radius)
        ImageDraw.Draw(picture).ellipse(box, outline=1, fill=1)
        return np.asarray(picture, bool)

    return draw


def decode_png(text: str, where: str) -> NDArray[Any]:
    """Decodes a PNG in base64: `[h, w]` of one channel, of others `[h, w, channels]`.

    Raises:
      DataError: it is none.
    """
    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            return np.asarray(picture)
    except Exception as error:  # decoders raise what they like
        raise DataError(f"{where}: no PNG in base64 ({error}).") from error


def paste(
    decode: Callable[[], NDArray[np.bool]], left: int, top: int, where: str
) -> Callable[[int, int], NDArray[np.bool]]:
    """Returns what draws a mask of a part of the image; what is outside of it is cut off.

    Args:
      decode: makes the mask; called when it is drawn, as all of a set do not fit in memory.
      left: column of the image at which the mask begins.
      top: its row.
      where: names the mask in messages.
    """

    def draw(height: int, width: int) -> NDArray[np.bool]:
        mask = decode()
        part = mask[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
        if not part.size:
            raise DataError(f"{where}: a mask at {left}, {top} is outside of the image.")
        whole = np.zeros((height, width), bool)
        y, x = max(0, top), max(0, left)
        whole[y : y + part.shape[0], x : x + part.shape[1]] = part
        return whole

    return draw
