"""Preprocessing: from a record and its sentences to arrays."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lts_jax.data import image_ops
from lts_jax.data.augmentation import NONE, Augmentation, Draw
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.data.word_pieces import WordPieces
from tfds_refcoco import DataError
from tfds_refcoco.expressions.views import View, view_pixels
from tfds_refcoco.masks import decode
from tfds_refcoco.records.reader import sentence_mask
from tfds_refcoco.records.split import Split
from tfds_refcoco.records.text import tokenize
from tfds_refcoco.records.types import Record

Batch = dict[str, Any]  # arrays by name, of one example or of a batch
Features = Callable[[Sequence[int]], tuple[np.ndarray, ...]]  # maps record numbers to features


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Converts the sentences of a split to examples.

    Attributes:
      vocabulary: the training split's words, or BERT's word pieces.
      image_size: side of the network's input in pixels.
      max_words: maximum sentence length; the rest is cut.
      resize: "letterbox" or "squash".
      hide_sentence: replace every word by the unknown word, for a language-blind baseline.
      augmentation: augmentation of training examples.
      strides: input pixels per cell of the training masks.
    """

    vocabulary: Vocabulary | WordPieces
    image_size: int
    max_words: int
    resize: image_ops.Resize = "letterbox"
    hide_sentence: bool = False
    augmentation: Augmentation = NONE
    strides: Sequence[int] = (4, 8)

    def image(
        self, record: Record, out: np.ndarray | None = None, view: View | None = None
    ) -> tuple[np.ndarray, image_ops.Placement]:
        """Decodes and resizes a record's JPEG. Returns uint8 `[S, S, 3]` and the image's placement.

        Writes to `out` unless it is None, and uses only the part `view` unless it is None.

        Raises:
          tfds_refcoco.DataError: the image cannot be decoded.
        """
        try:
            source = image_ops.decode_image(record["image"])
        except ValueError as error:
            raise DataError(
                f"image_id {record['image_id']}: {error}; rebuild the dataset"
            ) from error
        if view:
            source = view_pixels(source, view)
        h, w = source.shape[:2]
        placement = image_ops.place(h, w, self.image_size, self.resize)
        return image_ops.fit_image(source, placement, self.image_size, out), placement

    def sentence(self, sentence: str | Sequence[str]) -> Batch:
        """Converts a text, or its words, to `tokens` int32 `[T]` and `length` int32."""
        tokens, length = self.vocabulary.encode(sentence, self.max_words)
        if self.hide_sentence:
            tokens[:length] = self.vocabulary.unknown
        return {"tokens": tokens, "length": np.int32(length)}

    def train_batch(
        self,
        split: Split,
        rows: Sequence[int],
        per_image: int = 1,
        features: Features | None = None,
        draws: Sequence[Draw] = (),
    ) -> Batch:
        """Reads B sentences of a split and their K = B / `per_image` images.

        Each run of `per_image` consecutive rows shares an image, possibly from several datasets.

        Args:
          split: the split.
          rows: rows of the split's index, one per sentence.
          per_image: sentences per image.
          features: returns the cached features of records; the images are then not read.
          draws: random numbers of each image, if there is an augmentation.

        Returns:
          `image` uint8 `[K, S, S, 3]`, or the result of `features` for K records; `tokens` int32
          `[B, T]`, `length` int32 `[B]`, and the masks at H/4 and H/8, `truth4` and `truth8`, uint8
          `[B, S/4, S/4]` and `[B, S/8, S/8]`, or at other `strides`.
        """
        n, size = len(rows), self.image_size
        # Write in place: stacking separate examples would copy them all again.
        images = np.empty((n // per_image if features is None else 0, size, size, 3), np.uint8)
        batch: Batch = {
            "tokens": np.empty((n, self.max_words), np.int32),
            "length": np.empty(n, np.int32),
            **{f"truth{k}": np.empty((n, size // k, size // k), np.uint8) for k in self.strides},
        }
        for k in range(n // per_image):
            places = slice(k * per_image, (k + 1) * per_image)
            self._train_image(
                split,
                rows[places],
                {name: values[places] for name, values in batch.items()},
                images[k] if features is None else None,
                draws[k] if draws else None,
            )
        if features is None:
            return batch | {"image": images}
        return batch | {"image": features([int(split.index.record[i]) for i in rows[::per_image]])}

    def _train_image(
        self,
        split: Split,
        rows: Sequence[int],
        out: Batch,
        image: np.ndarray | None,
        draw: Draw | None,
    ) -> None:
        """Writes the arrays of an image and of the sentences in some rows of a split's index.

        Args:
          split: the split.
          rows: rows of the split's index.
          out: slices of the training batch for these sentences.
          image: uint8 `[S, S, 3]` to write to, or None to skip the image.
          draw: random numbers of the augmentation.
        """
        index, size = split.index, self.image_size
        height, width = int(index.height[rows[0]]), int(index.width[rows[0]])
        numbers = [int(index.record[row]) for row in rows]
        records = {number: split.record(number) for number in dict.fromkeys(numbers)}
        masks = [
            read_mask(records[number], int(index.sentence[row]), height, width)
            for number, row in zip(numbers, rows, strict=True)
        ]
        texts: Sequence[str | Sequence[str]] = [index.text[row] for row in rows]
        view = None
        if draw and self.augmentation:
            plan = self.augmentation.plan(draw, [tokenize(index.text[row]) for row in rows], masks)
            texts, view = plan.words, plan.view
            masks = [view_pixels(masks[i], view) for i in plan.sentences]
            height, width = view.height, view.width
        placement = image_ops.place(height, width, size, self.resize)
        for i, text in enumerate(texts):
            for name, value in self.sentence(text).items():
                out[name][i] = value
            for k in self.strides:
                out[f"truth{k}"][i] = image_ops.fit_mask(masks[i], placement, size, k)
        if draw and self.augmentation:
            self.augmentation.hide_words(draw, out["tokens"], out["length"], self.vocabulary)
        if image is not None:
            self.image(records[numbers[0]], image, view)
            if draw and self.augmentation:
                self.augmentation.hide_patches(draw, image)

    def eval_example(self, split: Split, rows: np.ndarray, canvas: tuple[int, int]) -> Batch:
        """Reads sentences of one image; decodes the image and each object's mask once.

        Args:
          split: the split.
          rows: s rows of the split's index, all of one record.
          canvas: height and width in pixels that fit the image.

        Returns:
          `image` uint8 `[S, S, 3]`, `placement` int32 `[6]`, `tokens` int32 `[s, T]`, `length`
          int32 `[s]`, and `truth` uint8 `[s, canvas height, ⌈canvas width / 8⌉]`: masks in the
          upper left corner of the canvas, with rows packed by `numpy.packbits`.
        """
        record = split.record(int(split.index.record[rows[0]]))
        image, placement = self.image(record)
        truth = np.zeros((len(rows), canvas[0], -(-canvas[1] // 8)), np.uint8)
        refs = split.index.ref_id[rows]  # all sentences of a ref share its mask
        for ref in np.unique(refs):
            first = int(split.index.sentence[rows[refs == ref][0]])
            packed = np.packbits(read_mask(record, first, *placement[:2]), axis=1)
            truth[refs == ref, : packed.shape[0], : packed.shape[1]] = packed
        sentences = [self.sentence(split.index.text[row]) for row in rows]
        return {
            "image": image,
            "placement": np.array(placement, np.int32),
            **{k: np.stack([s[k] for s in sentences]) for k in sentences[0]},
            "truth": truth,
        }


def read_mask(record: Record, sentence: int, height: int, width: int) -> np.ndarray:
    """Decodes the mask of a sentence's object, uint8 `[height, width]`."""
    return decode(sentence_mask(record, sentence), height, width)
