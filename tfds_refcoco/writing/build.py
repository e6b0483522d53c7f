"""Builds a dataset and publishes it atomically."""

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

    The dataset is published atomically; an interrupted build leaves no partial dataset. If several
    processes build the same dataset, one builds and the others wait. A complete build with the
    same options is reused. No network is used.

    Args:
      dataset: a name in `sources.SOURCES`.
      out: output folder, created if missing.
      raw: folder with the raw files (see `sources.py`); if None, `shapes` is generated.
      overwrite: whether to replace an existing build.
      progress: whether to show progress bars.
      splits: splits to build; all if empty.
      max_images: maximum number of images per split.
      skip_bad: whether to skip invalid items and list them in build.json, instead of raising.
      beam: options of Apache Beam, to write the records with Beam; see `beam.py`.

    Raises:
      DataError: the raw data is missing or invalid; an existing build is unchanged.
    """
    check_dataset(dataset)
    unknown = [name for name in splits if name not in SPLITS]
    if unknown:
        raise DataError(f"split: unknown split {unknown[0]!r}; choose from {', '.join(SPLITS)}.")
    if max_images is not None and max_images < 1:
        raise DataError(f"max_images: {max_images} must be at least 1.")
    if raw is None and dataset != "shapes":
        raise DataError(f"raw: {dataset} needs raw files; specify their folder with --raw.")
    if raw is not None and not raw.is_dir():
        raise DataError(
            f"raw: {raw} is not a folder; specify the folder with the image and annotation folders "
            "or zips (--raw, or config.data.raw)."
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
        raise DataError(f"out: {out} is a file; specify a folder.") from error
    with _lock(out / f".building-{dataset}.lock"):
        # Only the lock holder uses this folder: existing content is from an interrupted build.
        work = out / f".building-{dataset}"
        if (work / "replaced").exists() and not final.exists():  # interrupted between two renames
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
    """Raises DataError if the build at `path` has other options or annotation files."""
    before = read_build(path)
    fix = "use the same, choose another --out, or add --overwrite."
    for name, value in info["options"].items():
        built_with = before["options"].get(name)
        if built_with != value:
            raise DataError(
                f"{path} was built with {_FLAGS[name]} {built_with}, not {value}; {fix}"
            )
    for name, digest in info["annotations"].items():
        if before["annotations"].get(name) != digest:
            raise DataError(f"{path} was built from a different {name}; {fix}")


def _prepare(info: BuildInfo, raw: Path, work: Path, options: Options, beam: str | None) -> Path:
    """Writes the records and build.json to `work` and returns their folder."""
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
    """Acquires the lock file `path`; waits if another build holds it.

    The operating system releases the lock if the process dies; the file is not removed.
    """
    # preserve_lock_file also disables the fallback for file systems without locks, whose lock file
    # would block later builds if the process is killed.
    lock = FileLock(path, preserve_lock_file=True)
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        logger.warning("Waiting for another build that holds %s", path)
        return lock.acquire()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
