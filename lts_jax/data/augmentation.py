"""Changes of training examples: mirror images, crops, hidden words and hidden patches.

Each is drawn from the seed, the epoch and the place in it alone, so that an example is the same for
any number of hosts and of threads, and in a run that goes on.
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
SIDE = (0.5, 1.0)  # of a crop, share of the image's sides
_TAG = 0x6C74  # of these random numbers, none of which the order of sentences has
_FLIP, _CROP, _WORDS, _PATCHES = range(4)


class Draw(NamedTuple):
    """Where the random numbers of an image's sentences come from.

    Attributes:
      seed: of the run.
      epoch: from 0.
      place: in the epoch, of the first of the sentences.
    """

    seed: int
    epoch: int
    place: int

    def uniform(self, use: int, n: int) -> np.ndarray:
        """Returns float64 `[n]` in [0, 1), other numbers for each use.

        Of PCG64's stream itself, which no version of NumPy changes.
        """
        raw = np.random.PCG64([self.seed, self.epoch, self.place, use, _TAG]).random_raw(n)
        numbers: np.ndarray = (raw >> np.uint64(11)) * 2.0**-53
        return numbers


class Plan(NamedTuple):
    """What becomes of an image and the sentences about it.

    Attributes:
      view: the part of the image, in pixels, and whether it is mirrored.
      sentences: which of the sentences are there, one for each place; some may be there twice.
      words: of these.
    """

    view: View
    sentences: list[int]
    words: list[list[str]]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How often training examples are changed.

    Attributes:
      flip: chance of an image to be mirrored. Left and right are exchanged in its sentences; where
        one of them cannot be translated, see `lts_jax.data.wording.mirror`, it is left as it is.
      crop: chance of an image to be cut to a random part that shows whole what its sentences
        refer to. Of several sentences those that a crop may make false, see
        `lts_jax.data.wording.survives_crop`, give their place to the others; where all are such,
        the image is left as it is.
      mask_words: share of the words that become the unknown word, or BERT's [MASK]; one stays.
      mask_patches: share of the image's patches of 16 × 16 pixels that become gray.
    """

    flip: float = 0.0
    crop: float = 0.0
    mask_words: float = 0.0
    mask_patches: float = 0.0

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return any(dataclasses.astuple(self))

    def plan(self, draw: Draw, words: Sequence[Sequence[str]], masks: Sequence[np.ndarray]) -> Plan:
        """Decides about an image.

        Args:
          draw: of the image.
          words: of each sentence about it.
          masks: of what each refers to, uint8 `[h, w]`.
        """
        height, width = masks[0].shape
        view, kept = View(0, 0, width, height, False), list(range(len(words)))
        if self.crop:
            chance, *where = draw.uniform(_CROP, 4)
            safe = [i for i in kept if survives_crop(words[i])]
            if safe and chance < self.crop:
                view = _crop(where, [masks[i] for i in safe])
                kept = [safe[i % len(safe)] for i in kept]
        said = [list(words[i]) for i in kept]
        if self.flip and draw.uniform(_FLIP, 1)[0] < self.flip:
            mirrored = [translated for one in said if (translated := mirror(one)) is not None]
            if len(mirrored) == len(said):
                view, said = view._replace(mirrored=True), mirrored
        return Plan(view, kept, said)

    def hide_words(
        self, draw: Draw, tokens: np.ndarray, lengths: np.ndarray, words: Vocabulary | WordPieces
    ) -> None:
        """Hides words of an image's sentences, in place.

        Args:
          draw: of the image.
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
        """Hides patches of uint8 `[S, S, 3]`, S a multiple of `PATCH`, in place."""
        if not self.mask_patches:
            return
        n = len(image) // PATCH
        hidden = np.argsort(draw.uniform(_PATCHES, n * n), kind="stable")
        chosen = hidden[: round(self.mask_patches * n * n)]
        patches = image.reshape(n, PATCH, n, PATCH, 3)
        patches[chosen // n, :, chosen % n] = GRAY


NONE = Augmentation()


def _crop(numbers: Sequence[float], masks: Sequence[np.ndarray]) -> View:
    """A part of an image that holds every pixel of the masks, by three numbers in [0, 1)."""
    height, width = masks[0].shape
    share = SIDE[0] + (SIDE[1] - SIDE[0]) * numbers[0]
    found = []
    for axis, size, number in ((0, width, numbers[1]), (1, height, numbers[2])):
        shown = np.flatnonzero(np.any([mask.any(axis=axis) for mask in masks], axis=0))
        first, end = (int(shown[0]), int(shown[-1]) + 1) if len(shown) else (0, 0)
        length = max(round(size * share), end - first, 1)
        least, most = max(0, end - length), min(first, size - length)
        if not len(shown):
            least, most = 0, size - length
        found.append((least + int(number * (most - least + 1)), length))
    (left, w), (top, h) = found
    return View(left, top, w, h, False)
