"""Which sentence comes when in training: a function of the seed and the epoch alone."""

import functools
import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np

from lts_jax.data.augmentation import Draw
from lts_jax.errors import ConfigError

EpochUnit = Literal["sentences", "refs"]


class TrainingOrder:
    """The endless order of an index's rows, each epoch shuffled anew.

    An epoch is every sentence once or, with the unit "refs", a random sentence of every referred
    object once. Epoch e of seed s is drawn from NumPy's PCG64([s, e]), whose stream no version of
    NumPy changes: its first n numbers sort the n things, and in "refs" the next n choose the
    sentences. grain's shuffle is not used: there, epoch 1 of seed 0 is epoch 0 of seed 1.

    Sentences can come in groups of `per_image`, all about one image, and it is the groups that are
    shuffled. The first n numbers then sort the things of each image, which are cut into groups in
    that order; the last group of an image is filled up with its first things again, up to
    `per_image` times where it has fewer. Behind the 2 n numbers one for each group sorts these.

    With a `mix` an epoch has as many things, but of each set by its weight: a set has them all
    again and again, and the last time some of them at random. Those are chosen by the first
    numbers, and n more ones shuffle.

    Safe to read from many threads.

    For example, five sentences about two images, `image = [0, 0, 0, 1, 1]`, with `per_image=2` make
    three groups: two of image 0, the second filled up with its first sentence, and one of image 1.
    The places within the sentences sorted by image are `[[0, 1], [2, 0], [3, 4]]`, so an epoch has
    six examples, and its order is that of the three rows, shuffled.

    Args:
      ref_id: int `[sentences]`, of each sentence the object it refers to.
      seed: at least 0.
      unit: of an epoch.
      image: int `[sentences]`, of each sentence its image, in any numbering; None is one for each.
      per_image: sentences in a group.
      dataset: int `[sentences]`, of each sentence its set, if there is a `mix`.
      mix: weight of each set, positive; () for each thing once. It needs `per_image=1`.
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
        # Rows by ref, ref after ref, and where each ref begins; a sentence is a ref of its own.
        if unit == "sentences":
            self._rows, self._starts = np.arange(len(ref_id)), np.arange(len(ref_id))
        else:
            self._rows = np.argsort(ref_id, kind="stable")
            _, self._starts = np.unique(ref_id[self._rows], return_index=True)
        self._counts = np.diff(self._starts, append=len(ref_id))
        # Places of each group's things, where things are sorted by image.
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
            # As many as there are, by the weights, whatever rounding does.
            ends = np.round(np.cumsum(mix) / np.sum(mix) * len(first)).astype(int)
            self._quotas = np.diff(ends, prepend=0).tolist()
            if 0 in self._quotas:
                raise ConfigError(f"data.mix={tuple(mix)} leaves nothing of a set in an epoch")
        # Threads read ahead into the next epoch while others are in this one.
        self.epoch = functools.lru_cache(maxsize=4)(self._epoch)

    @property
    def epoch_length(self) -> int:
        """Examples in an epoch, with those that fill up groups."""
        return self._groups.size

    def __len__(self) -> int:
        return sys.maxsize  # grain's mark of an endless dataset

    def __getitem__(self, place: int) -> int:
        """Returns the row at `place`, counted from the start of epoch 0."""
        epoch, place_in_epoch = divmod(int(place), self.epoch_length)
        return int(self.epoch(epoch)[place_in_epoch])

    def draw(self, place: int) -> Draw:
        """Where the random numbers for an example at `place` come from."""
        return Draw(self._seed, *divmod(int(place), self.epoch_length))

    def _epoch(self, number: int) -> np.ndarray:
        n = len(self._starts)
        generator = np.random.PCG64([self._seed, number])
        keys, choices = generator.random_raw(2 * n).reshape(2, n)
        things = np.arange(n)
        if self._dataset is not None:
            by_key = np.argsort(keys, kind="stable")
            sets = self._dataset[by_key]
            things = np.concatenate(
                [np.resize(by_key[sets == k], quota) for k, quota in enumerate(self._quotas)]
            )
            keys = generator.random_raw(n)
        places = (choices % self._counts[things].astype(np.uint64)).astype(int)
        chosen = self._rows[self._starts[things] + places]
        if self.per_image == 1:
            shuffled: np.ndarray = chosen[np.argsort(keys, kind="stable")]
            return shuffled
        by_image = chosen[np.lexsort((keys, self._image))]
        order = np.argsort(generator.random_raw(len(self._groups)), kind="stable")
        grouped: np.ndarray = by_image[self._groups[order]].reshape(-1)
        return grouped


class HostShare:
    """What one of several hosts reads of an order: its part of every batch.

    Batch b of all hosts together is `order[b * batch_size : (b + 1) * batch_size]`, and host k of n
    has the k-th n-th of it, so that the hosts' parts in a row are the batch of a single host.

    Args:
      order: of all hosts.
      batch_size: of all hosts, a multiple of `hosts`, times the order's sentences in a group.
      host: number of this one, from 0.
      hosts: their number.
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
        """Returns where in the order the rows of a batch are."""
        start = int(batch) * self._batch_size
        return range(start + self._share.start, start + self._share.stop)
