"""Batches of sentences, by grain."""

import dataclasses
from typing import Any, Literal

import grain
import numpy as np

from lts_jax.data import preprocess
from lts_jax.data.tokenizer import UNKNOWN, Vocabulary
from tfds_refcoco.masks import decode
from tfds_refcoco.reader import Split

Batch = dict[str, Any]  # arrays by name; of one example or of a batch of them
EpochUnit = Literal["sentences", "refs"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a sentence of a split becomes an example.

    Attributes:
      vocabulary: the training split's words.
      image_size: side of the network's input in pixels.
      max_words: longer sentences are cut.
      resize: "letterbox" or "squash".
      hide_sentence: turn every word into the unknown word (a control: what can be had without
        reading?).
    """

    vocabulary: Vocabulary
    image_size: int
    max_words: int
    resize: preprocess.Resize = "letterbox"
    hide_sentence: bool = False

    def inputs(self, split: Split, row: int) -> tuple[Batch, np.ndarray, preprocess.Placement]:
        """Reads one sentence: network inputs, mask uint8 `[h, w]`, and the image's placement.

        The inputs are `image` uint8 `[S, S, 3]`, `tokens` int32 `[T]` and `length` int32.
        """
        index = split.index
        record = split.record(int(index.record[row]))
        image = preprocess.decode_image(record["image"])
        h, w = image.shape[:2]
        sentence = int(index.sentence[row])
        target = int(record["sentences"]["object"][sentence])
        mask = decode(record["objects"]["mask"][target], h, w)
        placement = preprocess.place(h, w, self.image_size, self.resize)
        tokens, length = self.vocabulary.encode(index.text[row], self.max_words)
        if self.hide_sentence:
            tokens[:length] = UNKNOWN
        inputs = {
            "image": preprocess.fit_image(image, placement, self.image_size),
            "tokens": tokens,
            "length": np.int32(length),
        }
        return inputs, mask, placement

    def train_example(self, split: Split, row: int) -> Batch:
        """Adds to the inputs `truth4` and `truth8`, uint8 masks at H/4 and H/8."""
        example, mask, placement = self.inputs(split, row)
        for stride in (4, 8):
            example[f"truth{stride}"] = preprocess.fit_mask(
                mask, placement, self.image_size, stride
            )
        return example

    def eval_example(self, split: Split, row: int, canvas: tuple[int, int]) -> Batch:
        """Adds to the inputs what scoring at the original size needs.

        `truth` uint8 `[*canvas]`, the mask in the upper left corner, and `placement` int32 `[6]`.
        """
        example, mask, placement = self.inputs(split, row)
        truth = np.zeros(canvas, np.uint8)
        truth[: mask.shape[0], : mask.shape[1]] = mask
        return example | {"truth": truth, "placement": np.array(placement, np.int32)}


def train_batches(
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    seed: int,
    epoch_unit: EpochUnit,
    threads: int,
) -> grain.IterDataset:
    """Endless shuffled batches of training examples; a batch may span two epochs.

    The order is a function of the seed alone, whatever the number of threads. An epoch is every
    sentence once or, with `epoch_unit="refs"`, a random sentence of every referred object once.
    """
    if epoch_unit == "sentences":
        rows = grain.MapDataset.range(len(split.index.sent_id)).shuffle(seed=seed).repeat()
    else:
        sentences = _rows_by_ref(split)
        rows = grain.MapDataset.source(sentences).shuffle(seed=seed).repeat()
        rows = rows.random_map(lambda of_ref, rng: int(rng.choice(of_ref)), seed=seed)
    examples = rows.map(lambda row: preprocessing.train_example(split, row))
    batches = examples.batch(batch_size, drop_remainder=True)
    return batches.to_iter_dataset(_read_options(threads))


def epoch_length(split: Split, epoch_unit: EpochUnit) -> int:
    """Examples in an epoch."""
    return len(split.index.sent_id) if epoch_unit == "sentences" else len(_rows_by_ref(split))


def eval_batches(
    split: Split, preprocessing: Preprocessing, *, batch_size: int, threads: int
) -> grain.IterDataset:
    """Every sentence once, in order; the last batch is filled up with repeats.

    Each example has its `row` in the split's index, or -1 where it fills up.
    """
    n = len(split.index.sent_id)
    canvas = canvas_of(split)

    def load(i: int) -> Batch:
        example = preprocessing.eval_example(split, min(i, n - 1), canvas)
        return example | {"row": np.int32(i if i < n else -1)}

    padded = -(-n // batch_size) * batch_size
    batches = grain.MapDataset.range(padded).map(load).batch(batch_size)
    return batches.to_iter_dataset(_read_options(threads))


def canvas_of(split: Split) -> tuple[int, int]:
    """Height and width that hold every image of the split, pixels."""
    return int(split.index.height.max()), int(split.index.width.max())


def _rows_by_ref(split: Split) -> list[np.ndarray]:
    order = np.argsort(split.index.ref_id, kind="stable")
    _, starts = np.unique(split.index.ref_id[order], return_index=True)
    return np.split(order, starts[1:])


def _read_options(threads: int) -> Any:
    # Elements are whole batches here: more of them in flight would only fill the memory.
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
