"""Builds a data set on disk, whole or not at all."""

import dataclasses
import fcntl
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfds_refcoco.errors import DataError
from tfds_refcoco.layout import Counts, Index, missing_files, version_dir, write_index


def build(
    dataset: str,
    out: Path,
    raw: Path | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Builds `dataset` under `out` and returns its folder, `out/tfds_refcoco/<dataset>/1.0.0`.

    The set appears at once when it is whole; a build that is killed leaves nothing behind that
    could be taken for it. Of several processes that build the same set one builds and the others
    wait. A whole set already there is returned as it is. No network is used.

    Args:
      dataset: a name of `raw.SOURCES`.
      out: the folder to build in, made if missing.
      raw: the folder with the raw files (see `raw.py`); `shapes` is generated if it is None.
      overwrite: whether to replace a whole set that is already there.
      progress: whether to show progress bars and notes.

    Raises:
      DataError: the raw data is missing or faulty; what was built before stays as it was.
    """
    from tfds_refcoco.raw import check_dataset

    check_dataset(dataset)
    if raw is None and dataset != "shapes":
        raise DataError(f"raw: {dataset} is built from files, give their folder with --raw.")
    if raw is not None and not raw.is_dir():
        raise DataError(
            f"raw: {raw} is not a folder; name the one that holds images/ and the annotations' "
            "folders (--raw, or config.data.raw)."
        )
    final = version_dir(out, dataset)
    out.mkdir(parents=True, exist_ok=True)
    with _lock(out / f".building-{dataset}.lock", progress):
        if not overwrite and not missing_files(final):
            _note(f"{final} is already built.", progress)
            return final
        # Only the holder of the lock uses this folder: what is in it is of a build that died.
        work = out / f".building-{dataset}"
        _remove(work)
        work.mkdir()
        try:
            if raw is None:
                from tfds_refcoco.shapes import generate

                raw = work / "raw"
                generate(raw, progress=progress)
            built = _prepare(dataset, raw.absolute(), work.absolute(), progress)
            _index(built, progress)
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                final.replace(work / "replaced")
            built.replace(final)
        finally:
            _remove(work)
    return final


def _prepare(dataset: str, raw: Path, work: Path, progress: bool) -> Path:
    """Writes the records in `work` and returns their folder."""
    import tensorflow_datasets as tfds

    from tfds_refcoco.builder import TfdsRefcoco

    builder = TfdsRefcoco(config=dataset, data_dir=work, file_format="array_record")
    builder.progress = progress
    config = tfds.download.DownloadConfig(manual_dir=raw, try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)


def _index(path: Path, progress: bool) -> None:
    """Writes the sentence index of each split from the records on disk, which checks them too."""
    from tfds_refcoco import masks
    from tfds_refcoco.layout import split_lengths
    from tfds_refcoco.reader import Split

    for name in split_lengths(path):
        split = Split(path, (name,))
        rows: list[tuple[Any, ...]] = []
        ratios: list[float] = []
        for number in tqdm(range(len(split)), f"index {name}", disable=not progress):
            record = split.record(number)
            objects, sentences = record["objects"], record["sentences"]
            image = record["image_id"], record["height"], record["width"]
            for mask, area in zip(objects["mask"], objects["area"], strict=True):
                ratios.append(masks.area(mask, *image[1:]) / float(area))
            for i, text in enumerate(sentences["sent"]):
                ref_id = objects["ref_id"][sentences["object"][i]]
                rows.append((number, i, int(sentences["sent_id"][i]), int(ref_id), *image, text))
        names = [column.name for column in dataclasses.fields(Index)]
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        counts = Counts(len(split), len(ratios), len(rows), min(ratios), max(ratios))
        write_index(path, name, columns, counts)


@contextmanager
def _lock(path: Path, progress: bool) -> Iterator[None]:
    """Holds the lock file `path`, waiting for another build; the system frees it if we die."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _note(f"waiting for another build that holds {path}", progress)
            fcntl.flock(file, fcntl.LOCK_EX)
        # The file stays: removing it would let two builds lock two files of the same name.
        yield


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _note(text: str, progress: bool) -> None:
    if progress:
        print(text, file=sys.stderr)
