"""Pictures of records: masks drawn over the image, and the sentences below it."""

import io
import textwrap
import unicodedata

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tfds_refcoco import masks
from tfds_refcoco.errors import DataError
from tfds_refcoco.inspection import fonts
from tfds_refcoco.raw.images import STORED
from tfds_refcoco.records.types import Record

# A palette that is distinguishable with red-green color blindness.
_COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (255, 255, 255),
)
_TINT = 0.35  # opacity of an object's color in its mask
_WIDTH = 640  # minimum width of a picture in pixels, for the sentences
_SIZE, _LINE, _MARGIN = 16, 22, 8  # of text, in pixels
_GLYPH = 9  # approximate width of a letter
_OTHER_GLYPH = 12  # the same for DejaVu Sans, which is wider
_NARROW = 4  # width of the narrowest letters
_LINES_EACH, _MOST_LINES = 8, 200  # lines per sentence, and in total
_BACKGROUND = (32, 32, 32)


def draw_record(record: Record) -> Image.Image:
    """Draws a record from `Split.record`.

    Every object has a color and a number, which also mark its sentences. Long sentences and long
    lists are truncated. Characters without a glyph are drawn as code points; see `fonts.choose`.
    """
    try:
        with Image.open(io.BytesIO(record["image"]), formats=STORED) as stored:
            pixels = np.array(stored.convert("RGB"))
    except Exception as error:  # decoders raise any type
        raise DataError(
            f"image id {record['image_id']}: the image does not decode ({error}); rebuild with "
            "--overwrite."
        ) from error
    h, w = record["height"], record["width"]
    scale = max(1, round(_WIDTH / w))  # so that outlines do not cover small pictures
    shown = pixels.repeat(scale, 0).repeat(scale, 1)
    places = []
    for number, counts in enumerate(record["objects"]["mask"]):
        mask = masks.decode(counts, h, w).repeat(scale, 0).repeat(scale, 1)
        color = np.array(_COLORS[number % len(_COLORS)])
        shown[mask > 0] = ((1 - _TINT) * shown[mask > 0] + _TINT * color).astype(np.uint8)
        outline, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(shown, outline, -1, color.tolist(), 2)
        places.append(_inside(mask))
    h, w = shown.shape[:2]
    lines = _lines(record, max(w, _WIDTH) - 2 * _MARGIN)
    size = max(w, _WIDTH), h + len(lines) * _LINE + 2 * _MARGIN
    sheet = Image.new("RGB", size, _BACKGROUND)
    sheet.paste(Image.fromarray(shown), (0, 0))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=_SIZE)
    for number, (x, y) in enumerate(places):
        fill = _COLORS[number % len(_COLORS)]
        draw.text((x, y), str(number), fill, font, anchor="mm", stroke_width=3, stroke_fill="black")
    for i, (fill, text, font) in enumerate(lines):
        draw.text((_MARGIN, h + _MARGIN + i * _LINE), text, fill, font)
    return sheet


def _inside(mask: NDArray[np.uint8]) -> tuple[int, int]:
    """Returns x, y of the mask pixel that is farthest from the boundary."""
    distance = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(np.argmax(distance), distance.shape)
    return int(x), int(y)


def _lines(record: Record, width: int) -> list[tuple[tuple[int, int, int], str, fonts.Font]]:
    """Wraps the sentences into lines of at most `width` pixels, each with its color and font."""
    targets, sentences = record["targets"], record["sentences"]["sent"]
    gray = (160, 160, 160)
    lines = _wrap(gray, f"{record['file_name']}  image id {record['image_id']}", width)
    for i, text in enumerate(sentences):
        if len(lines) > _MOST_LINES:
            lines += _wrap(gray, f"and {len(sentences) - i} more sentences", width)
            break
        objects = targets["object"][targets["sentence"] == i].tolist()
        color = _COLORS[objects[0] % len(_COLORS)] if objects else gray
        label = ",".join(map(str, objects)) if objects else "none"
        lines += _wrap(color, f"{label}: {text}", width)
    return lines


def _wrap(
    color: tuple[int, int, int], text: str, width: int
) -> list[tuple[tuple[int, int, int], str, fonts.Font]]:
    # Truncated first, because wrapping long texts is slow.
    font, shown = fonts.choose(text[: _LINES_EACH * width // _NARROW], _SIZE)
    # Ideographs are square.
    wide = any(unicodedata.east_asian_width(c) in ("W", "F") for c in shown)
    letters = width // (_SIZE if wide else _OTHER_GLYPH if fonts.needed(shown) else _GLYPH)
    wrapped = textwrap.wrap(shown, letters, max_lines=_LINES_EACH, placeholder=" …")
    return [(color, line, font) for line in wrapped]
