"""Batches of sentences, by grain."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import grain
import numpy as np

from lts_jax.checks import check_divides
from lts_jax.data import preprocess
from lts_jax.data.order import EpochUnit, HostShare, TrainingOrder
from lts_jax.data.tokenizer import UNKNOWN, Vocabulary
from tfds_refcoco import DataError
from tfds_refcoco.masks import decode
from tfds_refcoco.reader import Split, sentence_mask

Batch = dict[str, Any]  # arrays by name; of one example or of a batch of them


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

    def image(
        self, record: Batch, out: np.ndarray | None = None
    ) -> tuple[np.ndarray, preprocess.Placement]:
        """Decodes and fits a record's JPEG: uint8 `[S, S, 3]`, `out` if given, and its place there.

        Raises:
          tfds_refcoco.DataError: it cannot be decoded.
        """
        try:
            source = preprocess.decode_image(record["image"])
        except ValueError as error:
            raise DataError(
                f"image_id {record['image_id']}: {error}: build the data set again"
            ) from error
        h, w = source.shape[:2]
        placement = preprocess.place(h, w, self.image_size, self.resize)
        return preprocess.fit_image(source, placement, self.image_size, out), placement

    def sentence(self, text: str) -> Batch:
        """Turns a sentence into `tokens` int32 `[T]` and `length` int32."""
        tokens, length = self.vocabulary.encode(text, self.max_words)
        if self.hide_sentence:
            tokens[:length] = UNKNOWN
        return {"tokens": tokens, "length": np.int32(length)}

    def train_batch(self, split: Split, rows: Sequence[int], per_image: int = 1) -> Batch:
        """Reads B sentences of a split, rows of its index, K = B / `per_image` images.

        Each image is that of `per_image` rows, one behind the other.

        Returns:
          `image` uint8 `[K, S, S, 3]`, `tokens` int32 `[B, T]`, `length` int32 `[B]`, and the masks
          at H/4 and H/8, `truth4` and `truth8`, uint8 `[B, S/4, S/4]` and `[B, S/8, S/8]`.
        """
        n, size = len(rows), self.image_size
        sentences = [self.sentence(split.index.text[row]) for row in rows]
        batch = {
            # Written to in place: examples made one by one would all be copied again.
            "image": np.empty((n // per_image, size, size, 3), np.uint8),
            **{name: np.stack([s[name] for s in sentences]) for name in sentences[0]},
            **{f"truth{k}": np.empty((n, size // k, size // k), np.uint8) for k in (4, 8)},
        }
        for i, row in enumerate(rows):
            if i % per_image == 0:
                record = split.record(int(split.index.record[row]))
                _, placement = self.image(record, batch["image"][i // per_image])
            mask = read_mask(record, int(split.index.sentence[row]), *placement[:2])
            for k in (4, 8):
                batch[f"truth{k}"][i] = preprocess.fit_mask(mask, placement, size, k)
        return batch

    def eval_example(self, split: Split, rows: np.ndarray, canvas: tuple[int, int]) -> Batch:
        """Reads sentences of one image, decoding it, and the mask of each object, once.

        Args:
          split: of the sentences.
          rows: s rows of its index, all of one record.
          canvas: height and width that hold the image, pixels.

        Returns:
          `image` uint8 `[S, S, 3]`, `placement` int32 `[6]`, `tokens` int32 `[s, T]`, `length`
          int32 `[s]`, and `truth` uint8 `[s, canvas height, ⌈canvas width / 8⌉]`: masks in the
          upper left corner of the canvas, their rows packed by `numpy.packbits`.
        """
        record = split.record(int(split.index.record[rows[0]]))
        image, placement = self.image(record)
        truth = np.zeros((len(rows), canvas[0], -(-canvas[1] // 8)), np.uint8)
        refs = split.index.ref_id[rows]  # a ref's sentences mean the same
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


def read_mask(record: Batch, sentence: int, height: int, width: int) -> np.ndarray:
    """Decodes the mask of what a sentence of a record refers to, uint8 `[height, width]`."""
    return decode(sentence_mask(record, sentence), height, width)


class EvalGroup(NamedTuple):
    """K images and all their sentences, in batches of B."""

    # image uint8 [K, S, S, 3], placement int32 [K, 6].
    images: Batch
    # tokens int32 [B, T], length int32 [B], image int32 [B]: which of the K, truth uint8: packed
    # masks as in Preprocessing.eval_example, row int32 [B]: of the index, -1 where it fills up.
    sentences: list[Batch]


def train_batches(
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    seed: int,
    epoch_unit: EpochUnit,
    threads: int,
    per_image: int = 1,
    host: int = 0,
    hosts: int = 1,
) -> grain.IterDataset:
    """Endless shuffled batches of training examples; a batch may span two epochs.

    The order is `TrainingOrder`'s, a function of seed and epoch alone: the same for any number of
    threads, and of hosts taken together, each of which reads nothing but its own examples. The
    iterator's state is the number of batches taken, the same on every host.

    Args:
      split: the sentences.
      preprocessing: how they become examples.
      batch_size: sentences in a batch of all hosts together.
      seed: of the order.
      epoch_unit: see `TrainingOrder`.
      threads: that read and decode; each holds a batch.
      per_image: sentences about each image, one behind the other; see `TrainingOrder`.
      host: number of this host, which gets the `host`-th part of each batch.
      hosts: their number.

    Raises:
      ConfigError: the batch does not divide over the hosts.
    """
    over = f"{hosts} hosts"
    over += f" × train.sentences_per_image={per_image}" if per_image > 1 else ""
    check_divides("train.batch_size", batch_size, hosts * per_image, over)
    order = training_order(split, seed, epoch_unit, per_image)
    rows = grain.MapDataset.source(HostShare(order, batch_size, host, hosts))
    batches = rows.map(lambda rows: preprocessing.train_batch(split, rows, per_image))
    return batches.to_iter_dataset(_read_options(threads))


def training_order(
    split: Split, seed: int, epoch_unit: EpochUnit, per_image: int = 1
) -> TrainingOrder:
    """The order in which `train_batches` takes the rows of a split's index."""
    # Not image_id: joined splits may both hold an image.
    return TrainingOrder(split.index.ref_id, seed, epoch_unit, split.index.record, per_image)


def rows_of_batch(
    split: Split,
    seed: int,
    epoch_unit: EpochUnit,
    batch_size: int,
    number: int,
    per_image: int = 1,
) -> list[int]:
    """Rows of the index in batch `number`, from 0, of all hosts together, as `train_batches`."""
    order = training_order(split, seed, epoch_unit, per_image)
    return HostShare(order, batch_size, host=0, hosts=1)[number]


def epoch_length(split: Split, epoch_unit: EpochUnit, per_image: int = 1) -> int:
    """Examples in an epoch."""
    return training_order(split, 0, epoch_unit, per_image).epoch_length


def rows_by_image(split: Split) -> list[np.ndarray]:
    """Rows of the index by record: each image once, its sentences together, in order."""
    record = split.index.record  # not image_id: joined splits may both hold an image
    return np.split(np.arange(len(record)), np.flatnonzero(np.diff(record)) + 1)


def eval_batches(
    split: Split,
    preprocessing: Preprocessing,
    groups: Sequence[np.ndarray],
    *,
    canvas: tuple[int, int],
    batch_size: int,
    threads: int,
) -> grain.IterDataset:
    """Every sentence once, in the order of the groups, as `EvalGroup`s of K = B = `batch_size`.

    Whatever the last images and sentences leave empty repeats the last one.

    Args:
      split: the sentences.
      preprocessing: how they become examples.
      groups: rows that share a reading of their image, see `rows_by_image`.
      canvas: height and width that hold these images, see `lts_jax.data.canvases`.
      batch_size: images in a group, and sentences in a batch.
      threads: that read and decode; each holds a group, so memory grows with them.
    """
    parts = [groups[i : i + batch_size] for i in range(0, len(groups), batch_size)]

    def load(part: Sequence[np.ndarray]) -> EvalGroup:
        examples = [preprocessing.eval_example(split, rows, canvas) for rows in part]
        images = {k: np.stack([e[k] for e in examples]) for k in ("image", "placement")}
        keys = ("tokens", "length", "truth")
        sentences = {k: np.concatenate([e[k] for e in examples]) for k in keys}
        of_image = [len(rows) for rows in part]
        sentences["image"] = np.repeat(np.arange(len(part), dtype=np.int32), of_image)
        sentences["row"] = np.concatenate(part).astype(np.int32)
        filled = {k: _fill_up(v, batch_size) for k, v in sentences.items()}
        filled["row"][sum(of_image) :] = -1
        return EvalGroup(
            images={k: _fill_up(v, batch_size) for k, v in images.items()},
            sentences=[
                {k: v[i : i + batch_size] for k, v in filled.items()}
                for i in range(0, len(filled["row"]), batch_size)
            ],
        )

    return grain.MapDataset.source(parts).map(load).to_iter_dataset(_read_options(threads))


def side_by_side(groups: Sequence[EvalGroup], devices: int) -> EvalGroup:
    """Joins a group for each device along the leading axes; a device sees its own alone.

    So what a device is given does not depend on how many there are. `image` still counts from 0 in
    each device's group. A device without a group, or with fewer batches, repeats its last one with
    rows of -1.
    """
    most = max(len(group.sentences) for group in groups)
    idle = groups[-1]._replace(sentences=[])
    shares = [*groups, *[idle] * (devices - len(groups))]

    def batch(group: EvalGroup, number: int) -> Batch:
        if number < len(group.sentences):
            return group.sentences[number]
        last = (group.sentences or groups[-1].sentences)[-1]
        return last | {"row": np.full_like(last["row"], -1)}

    def join(parts: Sequence[Batch]) -> Batch:
        return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}

    return EvalGroup(
        images=join([group.images for group in shares]),
        sentences=[join([batch(group, i) for group in shares]) for i in range(most)],
    )


def _fill_up(values: np.ndarray, multiple: int) -> np.ndarray:
    """Repeats the last element until the length is a multiple."""
    missing = -len(values) % multiple
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


def _read_options(threads: int) -> Any:
    # Elements are whole batches here: more of them in flight would only fill the memory.
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
