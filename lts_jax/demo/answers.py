"""The demo page's results for an image and the typed sentences."""

import html
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from lts_jax.data.image_files import read_photo
from lts_jax.errors import NonFiniteOutputError
from lts_jax.inference.prediction import Prediction, parse
from lts_jax.inference.predictor import Predictor
from lts_jax.io import drawing
from tfds_refcoco import DataError

MOST_PIXELS = 64_000_000
MOST_SENTENCES = 10
MOST_LETTERS = 2_000  # in all lines
SIDES = 512, 1024  # minimum and maximum of the longer side of displayed images, pixels

Pictures = list[tuple[Image.Image, str]]  # with captions


def answer(predictor: Predictor, file: str | None, lines: str) -> tuple[Pictures, str]:
    """Segments what each line refers to; the image is encoded once.

    Args:
      predictor: the network's predictor.
      file: path of the image, or None.
      lines: one sentence per line; empty lines are ignored.

    Returns:
      The mask and the heatmap of each sentence, and HTML with the results or an error message.
    """
    try:
        if file is None:
            raise DataError("Drop an image first.")
        phrases = [parse(text) for text in _split(lines)]
        pixels = read_photo(Path(file), MOST_PIXELS)
        encoded = predictor.encode(pixels)
        # The image is already encoded; the maps are drawn at the displayed size.
        shown = encoded._replace(photo=encoded.photo._replace(image=_fit(pixels)))
        predictions = [predictor.find(shown, phrase) for phrase in phrases]
    except (DataError, NonFiniteOutputError) as error:
        message = str(error)
        if file is not None:
            message = message.replace(file, Path(file).name)
        return [], f'<p role="alert">{html.escape(message)}</p>'
    pictures = [picture for prediction in predictions for picture in _draw(prediction)]
    return pictures, _list(predictions, *pixels.shape[:2])


def _split(lines: str) -> list[str]:
    if len(lines) > MOST_LETTERS:
        raise DataError(f"{len(lines)} characters: type at most {MOST_LETTERS}.")
    texts = [line.strip() for line in lines.splitlines() if line.strip()]
    if not texts:
        raise DataError("Type what to find, one sentence per line.")
    if len(texts) > MOST_SENTENCES:
        raise DataError(f"{len(texts)} sentences: type at most {MOST_SENTENCES}.")
    return texts


def _fit(pixels: np.ndarray) -> np.ndarray:
    """Scales an image so that its longer side is within `SIDES`."""
    h, w = pixels.shape[:2]
    scale = min(max(max(h, w), SIDES[0]), SIDES[1]) / max(h, w)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(pixels, size, interpolation=how)


def _draw(prediction: Prediction) -> Pictures:
    picture = prediction.overlay()
    if prediction.box is not None:
        left, top, width, height = prediction.box
        corners = (left, top, left + width - 1, top + height - 1)
        line = max(1, max(picture.size) // 400)
        ImageDraw.Draw(picture).rectangle(corners, outline=drawing.TRUTH, width=line)
    pictures = [(picture, prediction.text)]
    if prediction.heatmap is not None:
        heatmap = drawing.draw_heatmap(prediction.image, prediction.heatmap)
        pictures.append((heatmap, f"heatmap: {prediction.text}"))
    return pictures


def _list(predictions: Sequence[Prediction], height: int, width: int) -> str:
    """Lists the result for each sentence, with boxes in pixels of an image of this size."""
    items = []
    for p in predictions:
        notes = [f"{p.mask.mean():.1%} of the image"]
        if p.box is not None:
            scale = np.tile((width / p.image.shape[1], height / p.image.shape[0]), 2)
            left, top, w, h = np.round(p.box * scale).astype(int)
            notes.append(f"box: left {left}, top {top}, {w} × {h} pixels")
        if p.unknown_words:
            notes.append(f"words not in the vocabulary: {', '.join(p.unknown_words)}")
        if p.unread_words:
            notes.append(f"sentence too long: the last {len(p.unread_words)} words were ignored")
        items.append(f"<dt>{html.escape(p.text)}</dt><dd>{html.escape('; '.join(notes))}</dd>")
    return f"<dl>{''.join(items)}</dl>"
