"""What the page shows for a picture and the lines that were typed."""

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
SIDES = 512, 1024  # of the longer side of what is shown, at least and at most, pixels

Pictures = list[tuple[Image.Image, str]]  # with captions


def answer(predictor: Predictor, file: str | None, lines: str) -> tuple[Pictures, str]:
    """Finds what each line says in a picture; the lines share its encoding.

    Args:
      predictor: of the network.
      file: path of the picture; None where there is none.
      lines: the sentences, one a line; empty ones do not count.

    Returns:
      For each sentence its mask and its heatmap; and as HTML what to say about it, or why there
      is none.
    """
    try:
        if file is None:
            raise DataError("Drop a picture first.")
        phrases = [parse(text) for text in _split(lines)]
        pixels = read_photo(Path(file), MOST_PIXELS)
        encoded = predictor.encode(pixels)
        # The network saw the picture; its maps are drawn at the size that is shown.
        shown = encoded._replace(photo=encoded.photo._replace(image=_fit(pixels)))
        found = [predictor.find(shown, phrase) for phrase in phrases]
    except (DataError, NonFiniteOutputError) as error:
        message = str(error)
        if file is not None:
            message = message.replace(file, Path(file).name)
        return [], f'<p role="alert">{html.escape(message)}</p>'
    pictures = [picture for prediction in found for picture in _draw(prediction)]
    return pictures, _list(found, *pixels.shape[:2])


def _split(lines: str) -> list[str]:
    if len(lines) > MOST_LETTERS:
        raise DataError(f"{len(lines)} letters: give {MOST_LETTERS} at most.")
    texts = [line.strip() for line in lines.splitlines() if line.strip()]
    if not texts:
        raise DataError("Type what to find, a sentence a line.")
    if len(texts) > MOST_SENTENCES:
        raise DataError(f"{len(texts)} sentences: give {MOST_SENTENCES} at most.")
    return texts


def _fit(pixels: np.ndarray) -> np.ndarray:
    """Scales a picture so that its longer side is one that is shown."""
    h, w = pixels.shape[:2]
    scale = min(max(max(h, w), SIDES[0]), SIDES[1]) / max(h, w)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(pixels, size, interpolation=how)


def _draw(found: Prediction) -> Pictures:
    picture = found.overlay()
    if found.box is not None:
        left, top, width, height = found.box
        corners = (left, top, left + width - 1, top + height - 1)
        line = max(1, max(picture.size) // 400)
        ImageDraw.Draw(picture).rectangle(corners, outline=drawing.TRUTH, width=line)
    pictures = [(picture, found.text)]
    if found.heatmap is not None:
        heatmap = drawing.draw_heatmap(found.image, found.heatmap)
        pictures.append((heatmap, f"heatmap: {found.text}"))
    return pictures


def _list(found: Sequence[Prediction], height: int, width: int) -> str:
    """What was found for each sentence, boxes in pixels of a picture of this size."""
    items = []
    for p in found:
        notes = [f"{p.mask.mean():.1%} of the picture"]
        if p.box is not None:
            scale = np.tile((width / p.image.shape[1], height / p.image.shape[0]), 2)
            left, top, w, h = np.round(p.box * scale).astype(int)
            notes.append(f"box: left {left}, top {top}, {w} × {h} pixels")
        if p.unknown_words:
            notes.append(f"words that training never saw: {', '.join(p.unknown_words)}")
        if p.unread_words:
            notes.append(f"the last {len(p.unread_words)} words were not read")
        items.append(f"<dt>{html.escape(p.text)}</dt><dd>{html.escape('; '.join(notes))}</dd>")
    return f"<dl>{''.join(items)}</dl>"
