"""Pictures of what the network saw and said."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL = 240  # side of the square that each picture is fitted into, pixels
MARGIN = 8
CAPTION = 28


class Example(NamedTuple):
    """One sentence, everything at the image's own size."""

    image: np.ndarray  # uint8 [h, w, 3]
    sentence: str
    iou: float
    heatmap: np.ndarray  # float [h, w] in [0, 1]
    prediction: np.ndarray  # bool [h, w]
    truth: np.ndarray  # bool [h, w]


def draw_gallery(examples: Sequence[Example]) -> Image.Image:
    """Draws one row an example: image, heatmap, prediction and truth under the sentence."""
    font = ImageFont.load_default(size=16)
    width = 4 * PANEL + 5 * MARGIN
    row_height = CAPTION + PANEL + MARGIN
    sheet = Image.new("RGB", (width, CAPTION + row_height * len(examples)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, title in enumerate(("image", "heatmap", "prediction", "truth")):
        x = MARGIN + i * (PANEL + MARGIN)
        draw.text((x, 6), title, fill="gray", font=font)
    for row, example in enumerate(examples):
        top = CAPTION + row * row_height
        caption = f"{example.sentence}   (IoU {example.iou:.2f})"
        draw.text((MARGIN, top + 4), caption, fill="black", font=font)
        panels = (
            example.image,
            overlay_heatmap(example.image, example.heatmap),
            overlay_mask(example.image, example.prediction, (220, 40, 40)),
            overlay_mask(example.image, example.truth, (40, 160, 60)),
        )
        for i, panel in enumerate(panels):
            picture = Image.fromarray(panel)
            scale = PANEL / max(picture.size)
            picture = picture.resize([max(1, round(side * scale)) for side in picture.size])
            left = MARGIN + i * (PANEL + MARGIN) + (PANEL - picture.width) // 2
            sheet.paste(picture, (left, top + CAPTION + (PANEL - picture.height) // 2))
    return sheet


def overlay_heatmap(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Blends a map in [0, 1], `[h, w]`, over uint8 `[h, w, 3]`."""
    colours = cv2.applyColorMap((heatmap * 255).astype(np.uint8), cv2.COLORMAP_JET)
    return (0.5 * image + 0.5 * colours[..., ::-1]).astype(np.uint8)


def overlay_mask(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Tints the mask and draws its outline; the rest of the image is dimmed."""
    out = image * np.where(mask[..., None], 0.5, 0.6)
    out[mask] += 0.5 * np.array(colour)
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    out = np.ascontiguousarray(out.astype(np.uint8))
    thickness = max(1, round(max(mask.shape) / 300))
    return cv2.drawContours(out, outlines, -1, colour, thickness)
