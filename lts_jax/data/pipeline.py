"""Loads batches of sentences with grain."""

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
    # tokens int32 [B, T]; length int32 [B]; image int32 [B], index among the K images; truth uint8,
    # packed masks as in Preprocessing.eval_example; row int32 [B] of the index, -1 for padding.
    sentences: list[Batch]


def training_order(
    split: Split,
    seed: int = 0,
    unit: EpochUnit = "sentences",
    per_image: int = 1,
    mix: Sequence[float] = (),
) -> TrainingOrder:
    """Returns the order in which the rows of a split's index are visited; see `TrainingOrder`.

    Raises:
      ConfigError: `mix` does not match the split's datasets.
    """
    if mix and (len(mix) != len(split.datasets) or per_image > 1):
        raise ConfigError(
            f"data.mix={tuple(mix)} must have a weight for each of {', '.join(split.datasets)}, "
            "and requires train.sentences_per_image=1, as an image's sentences may be from several "
            "datasets"
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
    """Returns endless shuffled batches of training examples; a batch may span two epochs.

    The batches are the same for any number of threads, and together for any number of hosts; each
    host reads only its own examples. The iterator's state is the number of batches read, which is
    the same on every host.

    Args:
      split: the split.
      order: order of the split's rows.
      preprocessing: converts sentences to examples.
      batch_size: global batch size in sentences, over all hosts.
      threads: number of threads that read and decode; each holds one batch in memory.
      host: index of this host, which gets the `host`-th part of each batch.
      hosts: number of hosts.
      features: returns cached features of records, instead of their images.

    Raises:
      ConfigError: the batch is not divisible by the number of hosts.
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
    """Returns the rows of the index grouped by record, in order, to read each image once."""
    record = split.index.record  # not image_id: joined splits may both contain an image
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
    """Returns every sentence once, in the groups' order, as `EvalGroup`s of K = B = `batch_size`.

    The last group and batch are padded by repeating the last image or sentence.

    Args:
      split: the split.
      preprocessing: converts sentences to examples.
      groups: rows that share an image, see `rows_by_image`.
      canvas: height and width that fit these images, see `lts_jax.data.buckets`.
      batch_size: images per group, and sentences per batch.
      threads: number of threads that read and decode; each holds one group in memory.
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
    """Joins one group per device along the leading axes; each device sees only its own group.

    The data of a device therefore does not depend on the number of devices. `image` is still the
    index within each device's group. A device without a group, or with fewer batches, repeats its
    last batch with rows of -1.
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
    """Repeats the last element until the length is a multiple of `multiple`."""
    missing = -len(values) % multiple
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


def _read_options(threads: int) -> Any:
    # Elements are complete batches, so prefetching more of them would only use more memory.
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
