"""Pictures of what the network saw and said."""

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from tfds_refcoco.inspection import fonts

PANEL = 200  # side of the square that each picture is fitted into, pixels
MARGIN = 6
CAPTION, TITLE = 26, 20  # heights of the lines of text
RED, GREEN = (230, 40, 40), (40, 200, 70)


class Example(NamedTuple):
    """One sentence, everything at the image's own size."""

    image: np.ndarray  # uint8 [h, w, 3]
    sentence: str
    iou: float
    heatmaps: Mapping[str, np.ndarray]  # by title, float [h, w] in [0, 1]; none without a locator
    prediction: np.ndarray  # bool [h, w]
    truth: np.ndarray  # bool [h, w]


def draw_gallery(examples: Sequence[Example]) -> Image.Image:
    """Draws each sentence over its pictures: image, heatmaps, prediction, truth."""
    return draw_sheet([(e.sentence, e.iou, pictures(e)) for e in examples], columns=2)


def draw_maps(examples: Sequence[Example], maps: Sequence[Mapping[str, np.ndarray]]) -> Image.Image:
    """Draws each sentence over its image, its heatmaps and further maps.

    Args:
      examples: the sentences.
      maps: of each sentence by title, float `[h, w]` in [0, 1].
    """
    rows = []
    for example, of_example in zip(examples, maps, strict=True):
        all_of = pictures(example)
        shown = {title: all_of[title] for title in ("image", *example.heatmaps)}
        for title, values in of_example.items():
            shown[title] = overlay_heatmap(all_of["image"], _resize(values))
        rows.append((example.sentence, example.iou, shown))
    return draw_sheet(rows, columns=1)


def draw_sheet(
    rows: Sequence[tuple[str, float, Mapping[str, np.ndarray]]], columns: int
) -> Image.Image:
    """Draws sentences with their IoUs over titled pictures, `columns` sentences side by side.

    Args:
      rows: sentence, IoU, and pictures uint8 `[h, w, 3]` by title, no larger than `PANEL`.
      columns: sentences side by side.
    """
    columns = min(columns, len(rows))
    most = max(len(pictures) for _, _, pictures in rows)
    block_width = most * (PANEL + MARGIN) + 2 * MARGIN
    block_height = CAPTION + TITLE + PANEL + MARGIN
    size = (columns * block_width, -(-len(rows) // columns) * block_height)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, (sentence, iou, pictures) in enumerate(rows):
        left = (i % columns) * block_width + MARGIN
        top = i // columns * block_height
        caption, font = _fit(sentence, f"   (IoU {iou:.2f})", 15, block_width - 2 * MARGIN)
        draw.text((left, top + 6), caption, fill="black", font=font)
        for j, (title, picture) in enumerate(pictures.items()):
            x = left + j * (PANEL + MARGIN)
            shown, font = _fit(title, "", 12, PANEL)  # may hold a word of the sentence
            draw.text((x, top + CAPTION), shown, fill="gray", font=font)
            h, w = picture.shape[:2]
            place = (x + (PANEL - w) // 2, top + CAPTION + TITLE + (PANEL - h) // 2)
            sheet.paste(Image.fromarray(picture), place)
    return sheet


def overlay_heatmap(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Blends a map in [0, 1], `[h, w]`, over uint8 `[h, w, 3]`."""
    colours = cv2.applyColorMap((heatmap * 255).astype(np.uint8), cv2.COLORMAP_JET)
    return (0.5 * image + 0.5 * colours[..., ::-1]).astype(np.uint8)


def overlay_mask(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Outlines a mask, bool `[h, w]`, on uint8 `[h, w, 3]`, and fades what is outside."""
    faded = cv2.LUT(image, (0.35 * np.arange(256) + 0.65 * 255).astype(np.uint8))
    out = np.where(mask[..., None], image, faded)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width = max(2, max(mask.shape) // 400)  # to be seen on a large picture too
    return cv2.drawContours(np.ascontiguousarray(out), outlines, -1, colour, width)


def _fit(sentence: str, score: str, size: int, width: int) -> tuple[str, fonts.Font]:
    """Shortens a sentence so that it fits with its score into `width` pixels.

    Returns:
      What to draw, and the font to draw it with.
    """
    # No letter is narrower than a pixel, so that the rest would be cut anyway.
    font, shown = fonts.choose(sentence[: width + 1], size)
    if font.getlength(shown + score) <= width:
        return shown + score, font
    end = "…" + score
    letters = range(len(shown) + 1)
    # The longest beginning that fits; a longer one is wider, but for kerning.
    key = lambda n: math.ceil(font.getlength(shown[:n] + end))  # noqa: E731
    most = bisect.bisect_right(letters, width, key=key)
    return shown[: max(0, most - 1)] + end, font


def pictures(example: Example) -> dict[str, np.ndarray]:
    """The pictures by title; scaled before they are drawn on, so that lines stay thin."""
    image = _resize(example.image)
    prediction, truth = (
        _resize(mask.astype(np.float32)) > 0.5 for mask in (example.prediction, example.truth)
    )
    return {
        "image": image,
        **{t: overlay_heatmap(image, _resize(values)) for t, values in example.heatmaps.items()},
        "prediction": overlay_mask(image, prediction, RED),
        "truth": overlay_mask(image, truth, GREEN),
    }


def _resize(values: np.ndarray) -> np.ndarray:
    """Fits `[h, w]` or `[h, w, 3]` into a panel."""
    h, w = values.shape[:2]
    scale = PANEL / max(h, w)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(values, size, interpolation=how)
