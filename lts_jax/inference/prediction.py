"""Inputs and results of prediction: images, sentences, masks at the original size."""

import dataclasses
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from lts_jax.data import image_ops
from lts_jax.data.examples import Preprocessing
from lts_jax.data.image_files import read_photo
from lts_jax.errors import NonFiniteOutputError
from lts_jax.io import drawing
from tfds_refcoco import DataError, masks
from tfds_refcoco.records.text import tokenize

Picture = str | Path | bytes | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one sentence, at the size of the upright image.

    A notebook displays it as the mask outlined on the image.

    Attributes:
      image: uint8 `[h, w, 3]`.
      text: the sentence.
      mask: bool `[h, w]`, where `probability` exceeds the threshold.
      probability: float32 `[h, w]`.
      heatmap: float32 `[h, w]`, probabilities of the locator's last round; None without a locator.
      unknown_words: words that are not in the network's vocabulary.
      unread_words: words beyond the network's maximal length.
    """

    image: np.ndarray
    text: str
    mask: np.ndarray
    probability: np.ndarray
    heatmap: np.ndarray | None
    unknown_words: list[str]
    unread_words: list[str]

    @functools.cached_property
    def rle(self) -> dict[str, Any]:
        """The mask as COCO's compressed RLE."""
        return {"size": list(self.mask.shape), "counts": masks.encode(self.mask).decode("ascii")}

    @property
    def box(self) -> list[int] | None:
        """Left, top, width and height of the mask in pixels; None if the mask is empty."""
        box = coco_mask.toBbox(self.rle | {"counts": self.rle["counts"].encode()})
        return [int(x) for x in box] if self.mask.any() else None

    def overlay(self) -> Image.Image:
        """Draws the mask outlined on the image, which is faded outside the mask."""
        return Image.fromarray(drawing.overlay_mask(self.image, self.mask, drawing.PREDICTION))

    def _repr_png_(self) -> bytes:
        """Returns the PNG that Jupyter displays."""
        out = io.BytesIO()
        self.overlay().save(out, "png")
        return out.getvalue()


class Phrase(NamedTuple):
    """A sentence with its words."""

    text: str
    words: list[str]


class Photo(NamedTuple):
    """An image, and its version that fits the network's input."""

    image: np.ndarray  # uint8 [h, w, 3]
    placement: image_ops.Placement
    fitted: np.ndarray  # uint8 [S, S, 3]


class Located(NamedTuple):
    """The network's output for a sentence: probabilities over its square input."""

    mask: np.ndarray  # float32 [G, G]
    heatmap: np.ndarray | None  # float32 [G', G']; None without a locator
    finite: bool


def parse(text: str, where: str = "") -> Phrase:
    """Tokenizes a sentence.

    Args:
      text: the sentence.
      where: the file and line of the sentence, for the error.

    Raises:
      DataError: it has no words.
    """
    words = tokenize(text)
    if not words:
        raise DataError(f"{where and where + ': '}text {text!r}: no words; say what to find.")
    return Phrase(text, words)


def parse_all(texts: str | Sequence[str | Phrase]) -> list[Phrase]:
    """Tokenizes one sentence or several; a `Phrase` stays unchanged.

    Raises:
      DataError: one has no words.
    """
    several = [texts] if isinstance(texts, str) else texts
    return [parse(text) if isinstance(text, str) else text for text in several]


def read(picture: Picture, preprocessing: Preprocessing) -> Photo:
    """Reads an image; see `lts_jax.data.image_files.read_photo` for the accepted types.

    Raises:
      DataError: it cannot be read.
    """
    pixels = read_photo(picture)
    h, w = pixels.shape[:2]
    size = preprocessing.image_size
    placement = image_ops.place(h, w, size, preprocessing.resize)
    return Photo(pixels, placement, image_ops.fit_image(pixels, placement, size))


def at_original_size(
    located: Located, photo: Photo, phrase: Phrase, preprocessing: Preprocessing, threshold: float
) -> Prediction:
    """Maps probabilities to the original image; the mask is where they exceed the threshold.

    This runs on the host, so that another image size needs neither compilation nor padding.

    Raises:
      NonFiniteOutputError: the network's outputs are not finite.
    """
    text, words = phrase
    if not located.finite:
        raise NonFiniteOutputError(
            f"text {text!r}: the network's outputs are not finite: the training has diverged, "
            "or the weights are damaged; take another --checkpoint"
        )

    def mapped(grid: np.ndarray) -> np.ndarray:
        h, w = photo.image.shape[:2]
        return image_ops.map_to_image(grid, photo.placement, preprocessing.image_size, h, w)

    known = preprocessing.vocabulary
    read_words = known.count_read(words, preprocessing.max_words)
    probability = mapped(located.mask)
    return Prediction(
        image=photo.image,
        text=text,
        mask=probability > threshold,
        probability=probability,
        heatmap=None if located.heatmap is None else mapped(located.heatmap),
        unknown_words=[word for word in words[:read_words] if word not in known],
        unread_words=words[read_words:],
    )
