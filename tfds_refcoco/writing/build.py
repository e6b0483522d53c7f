"""Builds a data set and publishes it atomically: it appears complete or not at all."""

import json
import logging
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.sources import check_dataset, hash_annotations
from tfds_refcoco.raw.types import SPLITS
from tfds_refcoco.records.layout import build_path, missing_files, read_build, version_dir
from tfds_refcoco.records.types import BuildInfo
from tfds_refcoco.writing.indexing import write_indices
from tfds_refcoco.writing.options import Options

logger = logging.getLogger(__name__)

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
    """Builds `dataset` under `out` and returns its folder, `out/tfds_refcoco/<dataset>/3.0.0`.

    The set appears at once when it is whole; a build that is killed leaves nothing behind that
    could be taken for it. Of several processes that build the same set one builds and the others
    wait. A whole set already there, built with the same options, is returned as it is. No network
    is used.

    Args:
      dataset: a name of `sources.SOURCES`.
      out: the folder to build in, made if missing.
      raw: the folder with the raw files (see `sources.py`); `shapes` is generated if it is None.
      overwrite: whether to replace a whole set that is already there.
      progress: whether to show progress bars.
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
    info: BuildInfo = {
        "dataset": dataset,
        "options": {"splits": list(splits), "max_images": max_images, "skip_bad": skip_bad},
        "annotations": hash_annotations(raw, check_dataset(dataset)) if raw else {},
        "gray_images": 0,
        "notes": [],
        "skipped": [],
    }
    final = version_dir(out, dataset)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise DataError(f"out: {out} is a file; give a folder.") from error
    with _lock(out / f".building-{dataset}.lock"):
        # Only the holder of the lock uses this folder: any content is from a build that was killed.
        work = out / f".building-{dataset}"
        if (work / "replaced").exists() and not final.exists():  # it died between two renames
            (work / "replaced").replace(final)
        _remove(work)
        if not overwrite and not missing_files(final):
            _check_same(final, info)
            logger.info("%s is already built.", final)
            return final
        work.mkdir()
        try:
            if raw is None:
                from tfds_refcoco.shapes import generate

                raw = work / "raw"
                generate(raw, progress=progress)
            options = Options(splits, max_images, skip_bad, progress)
            built = _prepare(info, raw.absolute(), work.absolute(), options, beam)
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


def _check_same(path: Path, info: BuildInfo) -> None:
    """Raises DataError if the set at `path` was built with other options or from other files."""
    before = read_build(path)
    fix = "give the same, another --out, or --overwrite."
    for name, value in info["options"].items():
        built_with = before["options"].get(name)
        if built_with != value:
            raise DataError(
                f"{path} was built with {_FLAGS[name]} {built_with}, not {value}; {fix}"
            )
    for name, digest in info["annotations"].items():
        if before["annotations"].get(name) != digest:
            raise DataError(f"{path} was built from another {name}; {fix}")


def _prepare(info: BuildInfo, raw: Path, work: Path, options: Options, beam: str | None) -> Path:
    """Writes the records and build.json in `work` and returns their folder."""
    import tensorflow_datasets as tfds

    from tfds_refcoco.writing.builder import TfdsRefcoco

    beam_options = None
    if beam is not None:
        from tfds_refcoco.writing.beam import parse_options

        beam_options = parse_options(beam)
    builder = TfdsRefcoco(config=info["dataset"], data_dir=work, file_format="array_record")
    builder.options = options
    config = tfds.download.DownloadConfig(
        manual_dir=raw, try_download_gcs=False, beam_options=beam_options
    )
    builder.download_and_prepare(download_config=config)
    path = Path(builder.data_dir)
    info["gray_images"], info["skipped"] = builder.gray, list(builder.skipped)
    info["notes"] = list(builder.notes)
    build_path(path).write_text(json.dumps(info, indent=2) + "\n")
    return path


def _lock(path: Path) -> AbstractContextManager[object]:
    """Locks the file `path`, waiting for another build that holds it.

    The operating system releases the lock if the process dies; the file itself stays.
    """
    # preserve_lock_file also rules out the fallback for file systems without locks, whose lock
    # file would block later builds if the process is killed.
    lock = FileLock(path, preserve_lock_file=True)
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        logger.warning("waiting for another build that holds %s", path)
        return lock.acquire()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
