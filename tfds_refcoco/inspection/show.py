"""Pictures of records: the masks over the image, the sentences below it."""

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

# Told apart on photos, by people who see red and green alike too.
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
_TINT = 0.35  # share of an object's color in its mask
_WIDTH = 640  # of a picture at least, pixels: sentences need room
_SIZE, _LINE, _MARGIN = 16, 22, 8  # of text, pixels
_GLYPH = 9  # width of a letter, about
_OTHER_GLYPH = 12  # and of one of DejaVu Sans, which is wider
_NARROW = 4  # width of the narrowest letters
_LINES_EACH, _MOST_LINES = 8, 200  # of a sentence, and of all
_BACKGROUND = (32, 32, 32)


def draw_record(record: Record) -> Image.Image:
    """Draws a record of `Split.record`.

    Every object has a color and a number, which its sentences bear too. Long sentences, and more
    than fit, are cut. What no font has a sign for is written as its code point, see `fonts.choose`.
    """
    try:
        with Image.open(io.BytesIO(record["image"]), formats=STORED) as stored:
            pixels = np.array(stored.convert("RGB"))
    except Exception as error:  # decoders raise what they like
        raise DataError(
            f"image id {record['image_id']}: the image does not decode ({error}); build again with "
            "--overwrite."
        ) from error
    h, w = record["height"], record["width"]
    scale = max(1, round(_WIDTH / w))  # so that outlines do not hide small pictures
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
    """Returns x, y of the pixel of the mask that is farthest from its rim."""
    distance = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(np.argmax(distance), distance.shape)
    return int(x), int(y)


def _lines(record: Record, width: int) -> list[tuple[tuple[int, int, int], str, fonts.Font]]:
    """Returns the sentences in lines of at most `width` pixels, each with its color and font."""
    targets, sentences = record["targets"], record["sentences"]["sent"]
    gray = (160, 160, 160)
    lines = _wrap(gray, f"{record['file_name']}  image id {record['image_id']}", width)
    for i, text in enumerate(sentences):
        if len(lines) > _MOST_LINES:
            lines += _wrap(gray, f"and {len(sentences) - i} more sentences", width)
            break
        meant = targets["object"][targets["sentence"] == i].tolist()
        color = _COLORS[meant[0] % len(_COLORS)] if meant else gray
        label = ",".join(map(str, meant)) if meant else "none"
        lines += _wrap(color, f"{label}: {text}", width)
    return lines


def _wrap(
    color: tuple[int, int, int], text: str, width: int
) -> list[tuple[tuple[int, int, int], str, fonts.Font]]:
    # No sentence takes more lines, and wrapping takes time: the rest is cut first.
    font, shown = fonts.choose(text[: _LINES_EACH * width // _NARROW], _SIZE)
    # Ideographs are as wide as high.
    wide = any(unicodedata.east_asian_width(c) in ("W", "F") for c in shown)
    letters = width // (_SIZE if wide else _OTHER_GLYPH if fonts.needed(shown) else _GLYPH)
    wrapped = textwrap.wrap(shown, letters, max_lines=_LINES_EACH, placeholder=" …")
    return [(color, line, font) for line in wrapped]
