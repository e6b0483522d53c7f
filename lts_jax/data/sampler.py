"""The order of sentences in training, a function of the seed and the epoch only."""

import functools
import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np

from lts_jax.data.augmentation import Draw
from lts_jax.errors import ConfigError

EpochUnit = Literal["sentences", "refs"]


class TrainingOrder:
    """The endless order of an index's rows, reshuffled in each epoch.

    An epoch visits every sentence once or, with the unit "refs", one random sentence of every
    object. Epoch e of seed s is drawn from NumPy's PCG64([s, e]), whose raw stream is stable across
    NumPy versions. The n items of an epoch (sentences or objects) are sorted by the first n
    numbers; with "refs" the next n numbers choose the sentences. grain's shuffle is not used
    because its epoch 1 of seed 0 equals epoch 0 of seed 1.

    Sentences can come in groups of `per_image`, all about one image; the groups are then shuffled.
    The first n numbers sort the items of each image, which are split into groups in that order. The
    last group of an image is padded with its first items, repeatedly if it has fewer than
    `per_image`. After the 2 n numbers, one number per group sorts the groups.

    With a `mix`, an epoch has the same number of items, distributed over the datasets by weight:
    all items of a dataset are repeated as often as needed, the last time only a random subset. The
    first n numbers choose the subset, and n more numbers shuffle the epoch.

    Reading is thread-safe.

    For example, five sentences about two images, `image = [0, 0, 0, 1, 1]`, with `per_image=2` form
    three groups: two of image 0, the second padded with its first sentence, and one of image 1.
    The positions within the sentences sorted by image are `[[0, 1], [2, 0], [3, 4]]`, so an epoch
    has six examples, and its order is that of the three rows, shuffled.

    Args:
      ref_id: int `[sentences]`, object of each sentence.
      seed: nonnegative.
      unit: unit of an epoch.
      image: int `[sentences]`, image of each sentence, in any numbering; None: all different.
      per_image: sentences per group.
      dataset: int `[sentences]`, dataset of each sentence; required with a `mix`.
      mix: positive weight of each dataset; () visits each item once. Requires `per_image=1`.
    """

    def __init__(
        self,
        ref_id: np.ndarray,
        seed: int,
        unit: EpochUnit,
        image: np.ndarray | None = None,
        per_image: int = 1,
        dataset: np.ndarray | None = None,
        mix: Sequence[float] = (),
    ) -> None:
        self._seed, self.per_image = seed, per_image
        # Rows sorted by ref, and the start of each ref; with "sentences" each sentence is a ref.
        if unit == "sentences":
            self._rows, self._starts = np.arange(len(ref_id)), np.arange(len(ref_id))
        else:
            self._rows = np.argsort(ref_id, kind="stable")
            _, self._starts = np.unique(ref_id[self._rows], return_index=True)
        self._counts = np.diff(self._starts, append=len(ref_id))
        # Positions of each group's items in the items sorted by image.
        first = self._rows[self._starts]
        self._image = first if image is None else image[first]
        of_image = np.unique(self._image, return_counts=True)[1]
        begins = np.cumsum(of_image) - of_image
        groups = -(-of_image // per_image)
        number = np.arange(groups.sum()) - np.repeat(np.cumsum(groups) - groups, groups)
        inside = number[:, None] * per_image + np.arange(per_image)
        of_image, begins = (np.repeat(x, groups)[:, None] for x in (of_image, begins))
        self._groups = begins + inside % of_image
        self._dataset, self._quotas = None, []
        if dataset is not None and mix:
            self._dataset = dataset[first]
            # Rounding the cumulative weights keeps the total number of items.
            ends = np.round(np.cumsum(mix) / np.sum(mix) * len(first)).astype(int)
            self._quotas = np.diff(ends, prepend=0).tolist()
            if 0 in self._quotas:
                raise ConfigError(
                    f"data.mix={tuple(mix)} leaves no sentence of a dataset in an epoch; increase "
                    "its weight"
                )
        # Threads may prefetch the next epoch while others are still in this one.
        self.epoch = functools.lru_cache(maxsize=4)(self._epoch)

    @property
    def epoch_length(self) -> int:
        """Number of examples in an epoch, including the padding of groups."""
        return self._groups.size

    def __len__(self) -> int:
        return sys.maxsize  # marks an endless dataset in grain

    def __getitem__(self, place: int) -> int:
        """Returns the row at position `place`, counted from the start of epoch 0."""
        epoch, place_in_epoch = divmod(int(place), self.epoch_length)
        return int(self.epoch(epoch)[place_in_epoch])

    def draw(self, place: int) -> Draw:
        """Returns the source of random numbers for the example at position `place`."""
        return Draw(self._seed, *divmod(int(place), self.epoch_length))

    def _epoch(self, number: int) -> np.ndarray:
        n = len(self._starts)
        generator = np.random.PCG64([self._seed, number])
        keys, choices = generator.random_raw(2 * n).reshape(2, n)
        items = np.arange(n)
        if self._dataset is not None:
            by_key = np.argsort(keys, kind="stable")
            sets = self._dataset[by_key]
            items = np.concatenate(
                [np.resize(by_key[sets == k], quota) for k, quota in enumerate(self._quotas)]
            )
            keys = generator.random_raw(n)
        places = (choices % self._counts[items].astype(np.uint64)).astype(int)
        chosen = self._rows[self._starts[items] + places]
        if self.per_image == 1:
            shuffled: np.ndarray = chosen[np.argsort(keys, kind="stable")]
            return shuffled
        by_image = chosen[np.lexsort((keys, self._image))]
        order = np.argsort(generator.random_raw(len(self._groups)), kind="stable")
        grouped: np.ndarray = by_image[self._groups[order]].reshape(-1)
        return grouped


class HostShare:
    """The part of an order that one of several hosts reads.

    Global batch b is `order[b * batch_size : (b + 1) * batch_size]`. Host k of n reads the k-th of
    its n equal parts, so that the concatenation of all hosts' parts is the batch of a single host.

    Args:
      order: the order over all hosts.
      batch_size: global batch size, a multiple of `hosts` times the order's `per_image`.
      host: index of this host, from 0.
      hosts: number of hosts.
    """

    def __init__(
        self, order: TrainingOrder, batch_size: int, host: int = 0, hosts: int = 1
    ) -> None:
        self._order, self._batch_size = order, batch_size
        self._share = range(host * batch_size // hosts, (host + 1) * batch_size // hosts)

    def __len__(self) -> int:
        return len(self._order) // self._batch_size

    def __getitem__(self, batch: int) -> list[int]:
        """Returns this host's rows of a batch."""
        return [self._order[place] for place in self.places(batch)]

    def places(self, batch: int) -> range:
        """Returns the positions of a batch's rows in the order."""
        start = int(batch) * self._batch_size
        return range(start + self._share.start, start + self._share.stop)
