"""Batches of sentences, by grain."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import grain
import numpy as np

from lts_jax.config.validation import check_divides
from lts_jax.data.examples import Batch, Features, Preprocessing
from lts_jax.data.sampler import EpochUnit, HostShare, TrainingOrder
from lts_jax.errors import ConfigError
from tfds_refcoco.records.split import Split


class EvalGroup(NamedTuple):
    """K images and all their sentences, in batches of B."""

    # image uint8 [K, S, S, 3], placement int32 [K, 6].
    images: Batch
    # tokens int32 [B, T], length int32 [B], image int32 [B]: which of the K, truth uint8: packed
    # masks as in Preprocessing.eval_example, row int32 [B]: of the index, -1 where it fills up.
    sentences: list[Batch]


def training_order(
    split: Split,
    seed: int = 0,
    unit: EpochUnit = "sentences",
    per_image: int = 1,
    mix: Sequence[float] = (),
) -> TrainingOrder:
    """The order in which the rows of a split's index are trained on; see `TrainingOrder`.

    Raises:
      ConfigError: `mix` does not suit the split's data sets.
    """
    if mix and (len(mix) != len(split.datasets) or per_image > 1):
        raise ConfigError(
            f"data.mix={tuple(mix)} must have a weight for each of {', '.join(split.datasets)}; it "
            "needs train.sentences_per_image=1: an image's sentences may be of several sets"
        )
    dataset = split.dataset if mix else None
    return TrainingOrder(split.index.ref_id, seed, unit, split.image, per_image, dataset, mix)


def train_batches(
    split: Split,
    order: TrainingOrder,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    threads: int,
    host: int = 0,
    hosts: int = 1,
    features: Features | None = None,
) -> grain.IterDataset:
    """Endless shuffled batches of training examples; a batch may span two epochs.

    They are the same for any number of threads, and of hosts taken together, each of which reads
    nothing but its own examples. The iterator's state is the number of batches taken, the same on
    every host.

    Args:
      split: the sentences.
      order: of its rows.
      preprocessing: how they become examples.
      batch_size: sentences in a batch of all hosts together.
      threads: that read and decode; each holds a batch.
      host: number of this host, which gets the `host`-th part of each batch.
      hosts: their number.
      features: of records, instead of their images.

    Raises:
      ConfigError: the batch does not divide over the hosts.
    """
    per_image, over = order.per_image, f"{hosts} hosts"
    over += f" × train.sentences_per_image={per_image}" if per_image > 1 else ""
    check_divides("train.batch_size", batch_size, hosts * per_image, over)
    share = HostShare(order, batch_size, host, hosts)

    def load(number: int, rows: Sequence[int]) -> Batch:
        draws = [order.draw(place) for place in share.places(number)[::per_image]]
        return preprocessing.train_batch(split, rows, per_image, features, draws)

    batches = grain.MapDataset.source(share).map_with_index(load)
    return batches.to_iter_dataset(_read_options(threads))


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
      canvas: height and width that hold these images, see `lts_jax.data.buckets`.
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
