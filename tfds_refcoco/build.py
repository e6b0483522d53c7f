"""Builds a data set on disk, whole or not at all."""

import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfds_refcoco.errors import DataError
from tfds_refcoco.indexing import write_indices
from tfds_refcoco.layout import build_path, missing_files, read_build, version_dir
from tfds_refcoco.options import Options
from tfds_refcoco.raw_types import SPLITS
from tfds_refcoco.sources import check_dataset, hash_annotations

_FLAGS = {"splits": "--split", "max_images": "--max-images", "skip_bad": "--skip-bad"}


def build(
    dataset: str,
    out: Path,
    raw: Path | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
    splits: tuple[str, ...] = (),
    max_images: int | None = None,
    skip_bad: bool = False,
    beam: str | None = None,
) -> Path:
    """Builds `dataset` under `out` and returns its folder, `out/tfds_refcoco/<dataset>/2.0.0`.

    The set appears at once when it is whole; a build that is killed leaves nothing behind that
    could be taken for it. Of several processes that build the same set one builds and the others
    wait. A whole set already there, built with the same options, is returned as it is. No network
    is used.

    Args:
      dataset: a name of `sources.SOURCES`.
      out: the folder to build in, made if missing.
      raw: the folder with the raw files (see `sources.py`); `shapes` is generated if it is None.
      overwrite: whether to replace a whole set that is already there.
      progress: whether to show progress bars and notes.
      splits: those wanted, all where empty.
      max_images: the first so many images of each split.
      skip_bad: whether faulty items are left out, and listed in build.json, instead of ending the
        build.
      beam: options of Apache Beam, whose workers then write the records; see `beam.py`.

    Raises:
      DataError: the raw data is missing or faulty; what was built before stays as it was.
    """
    check_dataset(dataset)
    unknown = [name for name in splits if name not in SPLITS]
    if unknown:
        raise DataError(f"split: {unknown[0]!r} is none of {', '.join(SPLITS)}.")
    if max_images is not None and max_images < 1:
        raise DataError(f"max images: {max_images} is less than 1.")
    if raw is None and dataset != "shapes":
        raise DataError(f"raw: {dataset} is built from files, give their folder with --raw.")
    if raw is not None and not raw.is_dir():
        raise DataError(
            f"raw: {raw} is not a folder; name the one that holds the images' and the annotations' "
            "folders or zips (--raw, or config.data.raw)."
        )
    splits = tuple(name for name in SPLITS if name in splits)
    said = {
        "dataset": dataset,
        "options": {"splits": list(splits), "max_images": max_images, "skip_bad": skip_bad},
        "annotations": hash_annotations(raw, check_dataset(dataset)) if raw else {},
    }
    final = version_dir(out, dataset)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise DataError(f"out: {out} is a file; give a folder.") from error
    with _lock(out / f".building-{dataset}.lock", progress):
        # Only the holder of the lock uses this folder: what is in it is of a build that died.
        work = out / f".building-{dataset}"
        if (work / "replaced").exists() and not final.exists():  # it died between two renames
            (work / "replaced").replace(final)
        _remove(work)
        if not overwrite and not missing_files(final):
            _check_same(final, said)
            _note(f"{final} is already built.", progress)
            return final
        work.mkdir()
        try:
            if raw is None:
                from tfds_refcoco.shapes import generate

                raw = work / "raw"
                generate(raw, progress=progress)
            options = Options(splits, max_images, skip_bad, progress)
            built = _prepare(said, raw.absolute(), work.absolute(), options, beam)
            write_indices(built, progress)
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                final.replace(work / "replaced")
            try:
                built.replace(final)
            except BaseException:
                if (work / "replaced").exists():
                    (work / "replaced").replace(final)
                raise
        finally:
            _remove(work)
    return final


def _check_same(path: Path, said: dict[str, Any]) -> None:
    """Raises DataError if the set at `path` was built with other options or from other files."""
    before = read_build(path)
    mend = "give the same, another --out, or --overwrite."
    for name, flag in _FLAGS.items():
        if before["options"].get(name) != said["options"][name]:
            raise DataError(
                f"{path} was built with {flag} {before['options'].get(name)}, not "
                f"{said['options'][name]}; {mend}"
            )
    for name, digest in said["annotations"].items():
        if before["annotations"].get(name) != digest:
            raise DataError(f"{path} was built from another {name}; {mend}")


def _prepare(
    said: dict[str, Any], raw: Path, work: Path, options: Options, beam: str | None
) -> Path:
    """Writes the records and build.json in `work` and returns their folder."""
    import tensorflow_datasets as tfds

    from tfds_refcoco.builder import TfdsRefcoco

    beam_options = None
    if beam is not None:
        from tfds_refcoco.beam import parse_options

        beam_options = parse_options(beam)
    builder = TfdsRefcoco(config=said["dataset"], data_dir=work, file_format="array_record")
    builder.options = options
    config = tfds.download.DownloadConfig(
        manual_dir=raw, try_download_gcs=False, beam_options=beam_options
    )
    builder.download_and_prepare(download_config=config)
    path = Path(builder.data_dir)
    said = said | {"gray_images": builder.gray, "skipped": builder.skipped}
    build_path(path).write_text(json.dumps(said, indent=2) + "\n")
    return path


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
