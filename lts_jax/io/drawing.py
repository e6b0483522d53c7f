"""Draws images with heatmaps, predicted masks and ground truth."""

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from lts_jax.io import colours
from lts_jax.io.colours import PROBABILITY, Range
from tfds_refcoco.inspection import fonts

PANEL = 200  # side of the square that each image is fitted into, pixels
MARGIN = 6
CAPTION, TITLE = 26, 20  # heights of the lines of text
# Colourblind-safe (Okabe and Ito).
PREDICTION, TRUTH = (230, 159, 0), (86, 180, 233)
_BAR = 80, 10  # width and height of a colour bar, pixels

ValuesInRange = tuple[np.ndarray, Range]
"""A map, float `[h, w]`, and its quantity and range."""


class Example(NamedTuple):
    """A sentence with its maps and masks, all at the original image size."""

    image: np.ndarray  # uint8 [h, w, 3]
    sentence: str
    iou: float
    heatmaps: Mapping[str, np.ndarray]  # by title, float [h, w] in [0, 1]; none without a locator
    prediction: np.ndarray  # bool [h, w]
    truth: np.ndarray  # bool [h, w]


class Row(NamedTuple):
    """A sentence of a sheet.

    Attributes:
      sentence: the text.
      iou: IoU of the predicted mask.
      pictures: images by title, uint8 `[h, w, 3]`, no larger than `PANEL`.
      ranges: ranges of the colours in them; a colour bar is drawn for each.
    """

    sentence: str
    iou: float
    pictures: Mapping[str, np.ndarray]
    ranges: Sequence[Range] = ()


def draw_gallery(examples: Sequence[Example]) -> Image.Image:
    """Draws each sentence above its panels: image, heatmaps, prediction, ground truth."""
    return draw_sheet([row(example) for example in examples], columns=2)


def row(example: Example) -> Row:
    """Draws the panels of a sentence."""
    ranges = [PROBABILITY] if example.heatmaps else []
    return Row(example.sentence, example.iou, pictures(example), ranges)


def draw_maps(
    examples: Sequence[Example], maps: Sequence[Mapping[str, ValuesInRange]]
) -> Image.Image:
    """Draws each sentence above its image, its heatmaps and further maps.

    Args:
      examples: the sentences.
      maps: for each sentence, maps by title.
    """
    rows = []
    for example, of_example in zip(examples, maps, strict=True):
        all_of = pictures(example)
        shown = {title: all_of[title] for title in ("image", *example.heatmaps)}
        for title, (values, of) in of_example.items():
            shown[title] = colours.overlay(_resize(example.image), _resize(values), of)
        ranges = [PROBABILITY, *dict.fromkeys(of for _, of in of_example.values())]
        rows.append(Row(example.sentence, example.iou, shown, ranges))
    return draw_sheet(rows, columns=1)


def draw_sheet(rows: Sequence[Row], columns: int) -> Image.Image:
    """Draws sentences and IoUs above titled panels, in `columns` columns of sentences."""
    columns = min(columns, len(rows))
    most = max(len(row.pictures) for row in rows)
    block_width = most * (PANEL + MARGIN) + 2 * MARGIN
    block_height = CAPTION + TITLE + PANEL + MARGIN
    size = (columns * block_width, -(-len(rows) // columns) * block_height)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, (sentence, iou, pictures, ranges) in enumerate(rows):
        left = (i % columns) * block_width + MARGIN
        top = i // columns * block_height
        end = left + block_width - 2 * MARGIN
        for of in reversed(ranges):
            end = _draw_bar(sheet, of, end, top + 6) - 2 * MARGIN
        caption, font = _fit(sentence, f"   (IoU {iou:.2f})", 15, end - left)
        draw.text((left, top + 6), caption, fill="black", font=font)
        for j, (title, picture) in enumerate(pictures.items()):
            x = left + j * (PANEL + MARGIN)
            shown, font = _fit(title, "", 12, PANEL)  # may contain a word of the sentence
            draw.text((x, top + CAPTION), shown, fill="gray", font=font)
            h, w = picture.shape[:2]
            place = (x + (PANEL - w) // 2, top + CAPTION + TITLE + (PANEL - h) // 2)
            sheet.paste(Image.fromarray(picture), place)
    return sheet


def draw_heatmap(image: np.ndarray, heatmap: np.ndarray) -> Image.Image:
    """Draws probabilities `[h, w]` over an image, uint8 `[h, w, 3]`, with a colour bar below."""
    h, w = heatmap.shape
    sheet = Image.new("RGB", (w, h + CAPTION), "white")
    sheet.paste(Image.fromarray(colours.overlay(image, heatmap)), (0, 0))
    _draw_bar(sheet, PROBABILITY, w - MARGIN, h + 6)
    return sheet


def _draw_bar(sheet: Image.Image, of: Range, right: int, top: int) -> int:
    """Draws a labelled colour bar that ends at x = `right`; returns the x of its left end."""
    draw, x = ImageDraw.Draw(sheet), float(right)
    for part in (f"{of.high:.2g}", None, f"{of.label}  {of.low:.2g}"):
        if part is None:
            x -= _BAR[0] + 2 * MARGIN
            picture = Image.fromarray(colours.bar(of, *_BAR))
            sheet.paste(picture, (round(x) + MARGIN, top + 3))
        else:
            shown, font = _fit(part, "", 12, PANEL)
            x -= font.getlength(shown)
            draw.text((x, top), shown, fill="gray", font=font)
    return math.floor(x)


def overlay_mask(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Outlines a mask, bool `[h, w]`, on an image, uint8 `[h, w, 3]`, and fades the background.

    The outline has a dark rim, so that it is visible on any background.
    """
    faded = cv2.LUT(image, (0.35 * np.arange(256) + 0.65 * 255).astype(np.uint8))
    out = np.ascontiguousarray(np.where(mask[..., None], image, faded))
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = max(2, max(mask.shape) // 400)  # visible on large images too
    cv2.drawContours(out, outlines, -1, (0, 0, 0), width + 2)
    return cv2.drawContours(out, outlines, -1, colour, width)


def _fit(sentence: str, score: str, size: int, width: int) -> tuple[str, fonts.Font]:
    """Shortens a sentence so that it fits with its score into `width` pixels.

    Returns:
      The text and its font.
    """
    # No letter is narrower than a pixel, so the rest would be cut anyway.
    font, shown = fonts.choose(sentence[: width + 1], size)
    if font.getlength(shown + score) <= width:
        return shown + score, font
    end = "…" + score
    letters = range(len(shown) + 1)
    # Find the longest prefix that fits; widths increase with length, except for kerning.
    key = lambda n: math.ceil(font.getlength(shown[:n] + end))  # noqa: E731
    most = bisect.bisect_right(letters, width, key=key)
    return shown[: max(0, most - 1)] + end, font


def pictures(example: Example) -> dict[str, np.ndarray]:
    """Returns the panels by title; images are scaled before drawing, so that lines stay thin."""
    image = _resize(example.image)
    prediction, truth = (
        _resize(mask.astype(np.float32)) > 0.5 for mask in (example.prediction, example.truth)
    )
    return {
        "image": image,
        **{t: colours.overlay(image, _resize(values)) for t, values in example.heatmaps.items()},
        "prediction": overlay_mask(image, prediction, PREDICTION),
        "truth": overlay_mask(image, truth, TRUTH),
    }


def _resize(values: np.ndarray) -> np.ndarray:
    """Resizes `[h, w]` or `[h, w, 3]` to fit into a panel."""
    h, w = values.shape[:2]
    scale = PANEL / max(h, w)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(values, size, interpolation=how)
