"""Augmentation of training examples: mirroring, crops, masked words and masked patches.

All random numbers depend only on the seed, the epoch and the position in the epoch. An example is
therefore the same for any number of hosts and threads, and in a resumed run.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lts_jax.data.image_ops import GRAY
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.data.word_pieces import WordPieces
from lts_jax.data.wording import mirror, survives_crop
from tfds_refcoco.expressions.views import View

PATCH = 16  # pixels: half a cell of the coarsest features
SIDE = (0.5, 1.0)  # sides of a crop, as fractions of the image's sides
_TAG = 0x6C74  # distinguishes these random numbers from those of the sentence order
_FLIP, _CROP, _WORDS, _PATCHES = range(4)


class Draw(NamedTuple):
    """The source of random numbers for an image and its sentences.

    Attributes:
      seed: seed of the run.
      epoch: number of the epoch, from 0.
      place: position of the first of the sentences in the epoch.
    """

    seed: int
    epoch: int
    place: int

    def uniform(self, use: int, n: int) -> np.ndarray:
        """Returns float64 `[n]` in [0, 1), with different numbers for each use.

        The numbers come from PCG64's raw stream, which is stable across NumPy versions.
        """
        raw = np.random.PCG64([self.seed, self.epoch, self.place, use, _TAG]).random_raw(n)
        numbers: np.ndarray = (raw >> np.uint64(11)) * 2.0**-53
        return numbers


class Plan(NamedTuple):
    """The augmentation of an image and its sentences.

    Attributes:
      view: the part of the image in pixels, and whether it is mirrored.
      sentences: index of the sentence at each position; indices may repeat.
      words: words of these sentences.
    """

    view: View
    sentences: list[int]
    words: list[list[str]]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Probabilities of the augmentations of training examples.

    Attributes:
      flip: probability of mirroring an image and swapping left and right in its sentences. The
        image is not mirrored if one of its sentences cannot be converted, see
        `lts_jax.data.wording.mirror`.
      crop: probability of cropping an image to a random part that fully contains the objects of its
        sentences. Sentences that a crop may make false, see `lts_jax.data.wording.survives_crop`,
        are replaced by the other sentences; if there are no others, the image is not cropped.
      mask_words: fraction of the words that are replaced by the unknown word or by BERT's [MASK];
        at least one word is kept.
      mask_patches: fraction of the image's 16 × 16 pixel patches that are replaced by gray.
    """

    flip: float = 0.0
    crop: float = 0.0
    mask_words: float = 0.0
    mask_patches: float = 0.0

    def __bool__(self) -> bool:
        """Whether any augmentation is enabled."""
        return any(dataclasses.astuple(self))

    def plan(self, draw: Draw, words: Sequence[Sequence[str]], masks: Sequence[np.ndarray]) -> Plan:
        """Chooses the augmentation of an image.

        Args:
          draw: random numbers of the image.
          words: words of each sentence about the image.
          masks: mask of each sentence's object, uint8 `[h, w]`.
        """
        height, width = masks[0].shape
        view, kept = View(0, 0, width, height, False), list(range(len(words)))
        if self.crop:
            chance, *where = draw.uniform(_CROP, 4)
            safe = [i for i in kept if survives_crop(words[i])]
            if safe and chance < self.crop:
                view = _crop(where, [masks[i] for i in safe])
                kept = [safe[i % len(safe)] for i in kept]
        texts = [list(words[i]) for i in kept]
        if self.flip and draw.uniform(_FLIP, 1)[0] < self.flip:
            mirrored = [converted for text in texts if (converted := mirror(text)) is not None]
            if len(mirrored) == len(texts):
                view, texts = view._replace(mirrored=True), mirrored
        return Plan(view, kept, texts)

    def hide_words(
        self, draw: Draw, tokens: np.ndarray, lengths: np.ndarray, words: Vocabulary | WordPieces
    ) -> None:
        """Masks words of an image's sentences in place.

        Args:
          draw: random numbers of the image.
          tokens: int32 `[sentences, T]`.
          lengths: int32 `[sentences]`.
          words: the vocabulary.
        """
        if not self.mask_words:
            return
        numbers = draw.uniform(_WORDS, tokens.size).reshape(tokens.shape)
        for of_sentence, ids, length in zip(numbers, tokens, lengths, strict=True):
            places = words.places(int(length))
            inside = of_sentence[places]
            hidden = (inside < self.mask_words) & (inside < inside.max(initial=0))
            ids[places][hidden] = words.mask

    def hide_patches(self, draw: Draw, image: np.ndarray) -> None:
        """Masks patches of uint8 `[S, S, 3]` in place; S must be a multiple of `PATCH`."""
        if not self.mask_patches:
            return
        n = len(image) // PATCH
        hidden = np.argsort(draw.uniform(_PATCHES, n * n), kind="stable")
        chosen = hidden[: round(self.mask_patches * n * n)]
        patches = image.reshape(n, PATCH, n, PATCH, 3)
        patches[chosen // n, :, chosen % n] = GRAY


NONE = Augmentation()


def _crop(numbers: Sequence[float], masks: Sequence[np.ndarray]) -> View:
    """Returns a crop that contains all pixels of the masks, from three numbers in [0, 1)."""
    height, width = masks[0].shape
    share = SIDE[0] + (SIDE[1] - SIDE[0]) * numbers[0]
    spans = []
    for axis, size, number in ((0, width, numbers[1]), (1, height, numbers[2])):
        shown = np.flatnonzero(np.any([mask.any(axis=axis) for mask in masks], axis=0))
        first, end = (int(shown[0]), int(shown[-1]) + 1) if len(shown) else (0, 0)
        length = max(round(size * share), end - first, 1)
        least, most = max(0, end - length), min(first, size - length)
        if not len(shown):
            least, most = 0, size - length
        spans.append((least + int(number * (most - least + 1)), length))
    (left, w), (top, h) = spans
    return View(left, top, w, h, False)
