"""Several built datasets as one, for joint training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tfds_refcoco.errors import DataError
from tfds_refcoco.records.pictures import doubts_about, held_out_rows
from tfds_refcoco.records.reader import Dataset, open_dataset
from tfds_refcoco.records.split import Part, Split


@dataclass(frozen=True)
class Kept:
    """How much of a dataset a joint training split uses.

    Attributes:
      images: number of training images.
      sentences: number of training sentences.
      dropped_images: images excluded because a dataset holds them out.
      dropped_sentences: sentences of the excluded images.
      leaked_images: training images that a dataset holds out.
    """

    images: int
    sentences: int
    dropped_images: int
    dropped_sentences: int
    leaked_images: int


class JointDataset:
    """Several built datasets with one joint training split.

    The training split excludes each picture that any dataset has in another split. Pictures are
    compared by their bytes and, in datasets of COCO images, by their ids. Other splits are named
    after their dataset: `refcoco_unc/val`.

    Args:
      sets: at least two datasets with different names.
      train: name of the training split of each dataset; a+b joins two splits.
      allow_leaks: keep the pictures that other splits contain.
    """

    def __init__(
        self, sets: Sequence[Dataset], train: str = "train", *, allow_leaks: bool = False
    ) -> None:
        self._sets, self._train, self._allow_leaks = {s.name: s for s in sets}, train, allow_leaks
        self.name = "+".join(self._sets)
        self.path = sets[0].path.parents[1]
        self.splits = tuple(f"{s.name}/{split}" for s in sets for split in s.splits)

    def split(self, name: str) -> Split:
        """Returns the joint training split, or splits of a dataset: `a/val` or `a/val+a/testA`.

        Raises:
          DataError: a split was not built or is named twice, or splits are of several datasets.
        """
        if name == self._train:
            return self._joint[0]
        names = [part.strip() for part in name.split("+")]
        unknown = [part for part in names if part not in self.splits]
        if unknown:
            raise DataError(
                f"split: {self.name} has no split {unknown[0]!r}; available are {self._train} "
                f"(joint), {', '.join(self.splits)}."
            )
        sets = {part.partition("/")[0] for part in names}
        if len(sets) > 1:
            raise DataError(
                f"split: {name!r} names splits of several datasets, whose ids may collide; name "
                "splits of one dataset."
            )
        dataset = self._sets[sets.pop()]
        return dataset.split("+".join(part.partition("/")[2] for part in names))

    @property
    def kept(self) -> dict[str, Kept]:
        """How much of each dataset the training split uses, by dataset name."""
        return self._joint[1]

    @cached_property
    def doubts(self) -> list[str]:
        """Reasons why held-out pictures may have been missed."""
        return [doubt for dataset in self._sets.values() for doubt in doubts_about(dataset)]

    @cached_property
    def _joint(self) -> tuple[Split, dict[str, Kept]]:
        held_out = held_out_rows(tuple(self._sets.values()), self._train)
        parts: list[Part] = []
        opened, kept = [], {}
        for name, dataset in self._sets.items():
            split, rows = dataset.split(self._train), held_out[name]
            opened.append(split)
            # Either all rows of an image are held out, or none.
            left = frozenset(split.index.image_id[~rows].tolist())
            leaked, total = len(np.unique(split.index.image_id[rows])), len(rows)
            if self._allow_leaks:
                parts += split.parts
                kept[name] = Kept(len(left) + leaked, total, 0, 0, leaked)
                continue
            if not left:
                raise DataError(
                    f"{name}: every image of {self._train} is held out by one of {self.name}; "
                    "set data.allow_leaks=True to train on them."
                )
            parts += [part._replace(only=left) for part in split.parts]
            dropped = int(rows.sum())
            kept[name] = Kept(len(left), total - dropped, leaked, dropped, 0)
        return Split(tuple(parts), opened), kept


def open_datasets(
    data_dir: Path, names: str, train: str = "train", *, allow_leaks: bool = False
) -> Dataset | JointDataset:
    """Opens a dataset, or several as one: `a+b`.

    Args:
      data_dir: as for `open_dataset`.
      names: dataset names, joined by `+`.
      train: see `JointDataset`.
      allow_leaks: see `JointDataset`.

    Raises:
      DataError: a dataset is named twice, or as in `open_dataset`.
    """
    listed = [name.strip() for name in names.split("+")]
    if len(listed) == 1:
        return open_dataset(data_dir, names)
    if len(set(listed)) < len(listed):
        raise DataError(f"dataset: {names!r} names a dataset twice.")
    sets = [open_dataset(data_dir, name) for name in listed]
    return JointDataset(sets, train, allow_leaks=allow_leaks)
