"""Opens a built dataset: random access to the records of its splits, and their index."""

from pathlib import Path

from tfds_refcoco import masks
from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.sources import check_dataset
from tfds_refcoco.records.layout import NAME, missing_files, split_lengths, version_dir
from tfds_refcoco.records.split import Part, Split
from tfds_refcoco.records.types import Record


class Dataset:
    """A built dataset. Use `open_dataset` to create one."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.splits: tuple[str, ...] = tuple(split_lengths(path))
        self._opened: dict[tuple[str, ...], Split] = {}

    def split(self, name: str) -> Split:
        """Returns the split `name`; `a+b` concatenates two splits.

        Raises:
          DataError: the split was not built, or is named twice.
        """
        names = tuple(part.strip() for part in name.split("+"))
        unknown = [part for part in names if part not in self.splits]
        if unknown:
            raise DataError(
                f"split: {self.name} has no split {unknown[0]!r}; available are "
                f"{', '.join(self.splits)}."
            )
        if len(set(names)) < len(names):
            raise DataError(f"split: {name!r} names a split twice.")
        if names not in self._opened:  # cached, because the index is large
            self._opened[names] = Split(tuple(Part(self.path, part) for part in names))
        return self._opened[names]


def open_dataset(data_dir: Path, dataset: str) -> Dataset:
    """Opens a dataset that `build` wrote to `data_dir`.

    Args:
      data_dir: the `--out` of the build, or the `tfds_refcoco` folder in it.
      dataset: a name such as `refcoco_unc`.

    Raises:
      DataError: the dataset is unknown, not built or incomplete; the message then contains the
        build command.
    """
    check_dataset(dataset)
    candidates = [version_dir(data_dir, dataset)]
    out = data_dir
    if data_dir.name == NAME:
        out = data_dir.parent
        candidates.append(version_dir(out, dataset))
    command = _build_command(dataset, out)
    path = next((path for path in candidates if path.is_dir()), None)
    if path is None:
        listed = " or ".join(map(str, candidates))
        raise DataError(f"dataset: {dataset} is not built: {listed} does not exist; run {command}")
    if missing := missing_files(path):
        raise DataError(f"{missing[0]}: missing or damaged; run {command} --overwrite")
    return Dataset(path, dataset)


def _build_command(dataset: str, out: Path) -> str:
    source = "" if dataset == "shapes" else "--raw RAW_DIR "
    return f"python -m tfds_refcoco build --dataset {dataset} {source}--out {out}"


def sentence_mask(record: Record, sentence: int) -> bytes:
    """Returns the target mask of a sentence as RLE counts; see `masks.decode`.

    The mask is the union of the sentence's targets, empty if it has none.

    Args:
      record: a record from `Split.record`.
      sentence: position in `record["sentences"]`.

    Raises:
      DataError: a target is not an object of the record, or one of several masks is malformed.
    """
    targets = record["targets"]["object"][record["targets"]["sentence"] == sentence]
    if len(targets) and not 0 <= targets.min() <= targets.max() < len(record["objects"]["mask"]):
        raise DataError(f"image id {record['image_id']}: a target is not an object of the record.")
    parts = [record["objects"]["mask"][target] for target in targets]
    return masks.union(parts, record["height"], record["width"])
