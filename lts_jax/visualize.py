"""Pictures of what the network saw and said."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL = 200  # side of the square that each picture is fitted into, pixels
COLUMNS = 2  # examples side by side
MARGIN = 6
CAPTION = 26
RED, GREEN = (230, 40, 40), (40, 200, 70)


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Example(NamedTuple):
    """One sentence, everything at the image's own size."""

    image: np.ndarray  # uint8 [h, w, 3]
    sentence: str
    iou: float
    heatmaps: Sequence[np.ndarray]  # by round, float [h, w] in [0, 1]; none without a locator
    prediction: np.ndarray  # bool [h, w]
    truth: np.ndarray  # bool [h, w]


def draw_gallery(examples: Sequence[Example]) -> Image.Image:
    """Draws each example as a sentence over its pictures: image, heatmaps, prediction, truth.

    All examples have the same number of heatmaps.
    """
    titles = _titles(len(examples[0].heatmaps))
    font = ImageFont.load_default(size=15)
    block_width = len(titles) * (PANEL + MARGIN) + 2 * MARGIN
    block_height = CAPTION + PANEL + MARGIN
    columns = min(COLUMNS, len(examples))
    rows = -(-len(examples) // columns)
    size = (columns * block_width, CAPTION + rows * block_height)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, example in enumerate(examples):
        left = (i % columns) * block_width + MARGIN
        top = CAPTION + (i // columns) * block_height
        caption = _fit(
            example.sentence, f"   (IoU {example.iou:.2f})", font, block_width - 2 * MARGIN
        )
        draw.text((left, top + 4), caption, fill="black", font=font)
        for j, (title, panel) in enumerate(zip(titles, _panels(example), strict=True)):
            x = left + j * (PANEL + MARGIN)
            if i < columns:
                draw.text((x, 5), title, fill="gray", font=font)
            h, w = panel.shape[:2]
            place = (x + (PANEL - w) // 2, top + CAPTION + (PANEL - h) // 2)
            sheet.paste(Image.fromarray(panel), place)
    return sheet


def overlay_heatmap(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Blends a map in [0, 1], `[h, w]`, over uint8 `[h, w, 3]`."""
    colours = cv2.applyColorMap((heatmap * 255).astype(np.uint8), cv2.COLORMAP_JET)
    return (0.5 * image + 0.5 * colours[..., ::-1]).astype(np.uint8)


def overlay_mask(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Outlines a mask, bool `[h, w]`, on uint8 `[h, w, 3]`, and fades what is outside."""
    faded = 0.35 * image + 0.65 * 255
    out = np.where(mask[..., None], image, faded).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(out), outlines, -1, colour, 2)


def _fit(sentence: str, score: str, font: Font, width: int) -> str:
    """Shortens a sentence until it fits with its score into `width` pixels."""
    shown, cut = sentence, ""
    while shown and font.getlength(shown + cut + score) > width:
        shown, cut = shown[:-1], "…"
    return shown + cut + score


def _titles(rounds: int) -> tuple[str, ...]:
    heatmaps = ["heatmap"] if rounds == 1 else [f"round {i + 1}" for i in range(rounds)]
    return ("image", *heatmaps, "prediction", "truth")


def _panels(example: Example) -> tuple[np.ndarray, ...]:
    """The pictures as `_titles` has them; scaled before they are drawn on: lines stay thin."""
    h, w = example.image.shape[:2]
    scale = PANEL / max(h, w)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(example.image, size, interpolation=how)
    heatmaps = [cv2.resize(h, size, interpolation=cv2.INTER_LINEAR) for h in example.heatmaps]
    prediction, truth = (
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        for mask in (example.prediction, example.truth)
    )
    return (
        image,
        *(overlay_heatmap(image, heatmap) for heatmap in heatmaps),
        overlay_mask(image, prediction, RED),
        overlay_mask(image, truth, GREEN),
    )
