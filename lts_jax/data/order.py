"""Which sentence comes when in training: a function of the seed and the epoch alone."""

import functools
import sys
from typing import Literal

import numpy as np

EpochUnit = Literal["sentences", "refs"]


class TrainingOrder:
    """The endless order of an index's rows, each epoch shuffled anew.

    An epoch is every sentence once or, with the unit "refs", a random sentence of every referred
    object once. Epoch e of seed s is drawn from NumPy's PCG64([s, e]), whose stream no version of
    NumPy changes: its first n numbers sort the n things, and in "refs" the next n choose the
    sentences. grain's shuffle is not used: there, epoch 1 of seed 0 is epoch 0 of seed 1.

    Safe to read from many threads.

    Args:
      ref_id: int `[sentences]`, of each sentence the object it refers to.
      seed: at least 0.
      unit: of an epoch.
    """

    def __init__(self, ref_id: np.ndarray, seed: int, unit: EpochUnit) -> None:
        self._seed = seed
        # Rows by ref, ref after ref, and where each ref begins; a sentence is a ref of its own.
        if unit == "sentences":
            self._rows, self._starts = np.arange(len(ref_id)), np.arange(len(ref_id))
        else:
            self._rows = np.argsort(ref_id, kind="stable")
            _, self._starts = np.unique(ref_id[self._rows], return_index=True)
        self._counts = np.diff(self._starts, append=len(ref_id))
        # Threads read ahead into the next epoch while others are in this one.
        self.epoch = functools.lru_cache(maxsize=4)(self._epoch)

    @property
    def epoch_length(self) -> int:
        """Examples in an epoch."""
        return len(self._starts)

    def __len__(self) -> int:
        return sys.maxsize  # grain's mark of an endless dataset

    def __getitem__(self, place: int) -> int:
        """Returns the row at `place`, counted from the start of epoch 0."""
        epoch, place_in_epoch = divmod(int(place), self.epoch_length)
        return int(self.epoch(epoch)[place_in_epoch])

    def _epoch(self, number: int) -> np.ndarray:
        n = self.epoch_length
        drawn = np.random.PCG64([self._seed, number]).random_raw(2 * n)
        chosen = self._rows[self._starts + (drawn[n:] % self._counts.astype(np.uint64)).astype(int)]
        return chosen[np.argsort(drawn[:n], kind="stable")]


class HostShare:
    """What one of several hosts reads of an order: its part of every batch.

    Batch b of all hosts together is `order[b * batch_size : (b + 1) * batch_size]`, and host k of n
    has the k-th n-th of it, so that the hosts' parts in a row are the batch of a single host.

    Args:
      order: of all hosts.
      batch_size: of all hosts, a multiple of `hosts`.
      host: number of this one, from 0.
      hosts: their number.
    """

    def __init__(self, order: TrainingOrder, batch_size: int, host: int, hosts: int) -> None:
        self._order, self._batch_size = order, batch_size
        self._share = range(host * batch_size // hosts, (host + 1) * batch_size // hosts)

    def __len__(self) -> int:
        return len(self._order) // self._batch_size

    def __getitem__(self, batch: int) -> list[int]:
        """Returns this host's rows of a batch."""
        start = int(batch) * self._batch_size
        return [self._order[start + place] for place in self._share]
