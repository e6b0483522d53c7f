"""Several built sets as one, to train on all of them."""

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
    """What a set gives to a joint training split.

    Attributes:
      images: trained on.
      sentences: trained on.
      dropped_images: left out, as a set holds them out.
      dropped_sentences: about these.
      leaked_images: trained on although a set holds them out.
    """

    images: int
    sentences: int
    dropped_images: int
    dropped_sentences: int
    leaked_images: int


class JointDataset:
    """Several built sets, whose training splits are one split.

    The training split leaves out each picture that any of the sets holds out, that is, has in
    another split: by its bytes, or by its id in a set of COCO's. The other splits keep their set's
    name: `refcoco_unc/val`.

    Args:
      sets: at least two, of different names.
      train: name of the training split of each set; a+b joins two.
      allow_leaks: leave nothing out.
    """

    def __init__(
        self, sets: Sequence[Dataset], train: str = "train", *, allow_leaks: bool = False
    ) -> None:
        self._sets, self._train, self._allow_leaks = {s.name: s for s in sets}, train, allow_leaks
        self.name = "+".join(self._sets)
        self.path = sets[0].path.parents[1]
        self.splits = tuple(f"{s.name}/{split}" for s in sets for split in s.splits)

    def split(self, name: str) -> Split:
        """Returns the joint training split, or a set's own: `a/val`, or in a row `a/val+a/testA`.

        Raises:
          DataError: no split of that name was built, one is named twice, or several are of
            different sets.
        """
        if name == self._train:
            return self._joint[0]
        names = [part.strip() for part in name.split("+")]
        unknown = [part for part in names if part not in self.splits]
        if unknown:
            raise DataError(
                f"split: {self.name} has no split {unknown[0]!r}, it has {self._train} of all, and "
                f"{', '.join(self.splits)}."
            )
        sets = {part.partition("/")[0] for part in names}
        if len(sets) > 1:
            raise DataError(f"split: {name!r} is of several sets, whose ids may be the same.")
        dataset = self._sets[sets.pop()]
        return dataset.split("+".join(part.partition("/")[2] for part in names))

    @property
    def kept(self) -> dict[str, Kept]:
        """What each set gives to the training split, by its name."""
        return self._joint[1]

    @cached_property
    def doubts(self) -> list[str]:
        """Why more pictures may be held out than are found."""
        return [doubt for dataset in self._sets.values() for doubt in doubts_about(dataset)]

    @cached_property
    def _joint(self) -> tuple[Split, dict[str, Kept]]:
        held_out = held_out_rows(tuple(self._sets.values()), self._train)
        parts: list[Part] = []
        opened, kept = [], {}
        for name, dataset in self._sets.items():
            whole, rows = dataset.split(self._train), held_out[name]
            opened.append(whole)
            # All rows of an image are held out, or none.
            left = frozenset(whole.index.image_id[~rows].tolist())
            leaked, total = len(np.unique(whole.index.image_id[rows])), len(rows)
            if self._allow_leaks:
                parts += whole.parts
                kept[name] = Kept(len(left) + leaked, total, 0, 0, leaked)
                continue
            if not left:
                raise DataError(
                    f"{name}: every image of {self._train} is held out by one of {self.name}; "
                    "data.allow_leaks=True trains on them."
                )
            parts += [part._replace(only=left) for part in whole.parts]
            dropped = int(rows.sum())
            kept[name] = Kept(len(left), total - dropped, leaked, dropped, 0)
        return Split(tuple(parts), opened), kept


def open_datasets(
    data_dir: Path, names: str, train: str = "train", *, allow_leaks: bool = False
) -> Dataset | JointDataset:
    """Opens a set, or of `a+b` several as one.

    Args:
      data_dir: as for `open_dataset`.
      names: of the sets.
      train: see `JointDataset`.
      allow_leaks: see `JointDataset`.

    Raises:
      DataError: a set is named twice, or as in `open_dataset`.
    """
    listed = [name.strip() for name in names.split("+")]
    if len(listed) == 1:
        return open_dataset(data_dir, names)
    if len(set(listed)) < len(listed):
        raise DataError(f"dataset: {names!r} names a set twice.")
    sets = [open_dataset(data_dir, name) for name in listed]
    return JointDataset(sets, train, allow_leaks=allow_leaks)
