"""Predicts masks for the images and phrases of a command line, and writes the results."""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lts_jax.errors import ConfigError
from lts_jax.inference.prediction import Phrase, Prediction, parse
from lts_jax.inference.predictor import Predictor
from lts_jax.io import drawing
from lts_jax.io.files import only_run_in, shorten, write_json, write_picture
from tfds_refcoco import DataError

# Files written by `write_predictions`.
_OURS = re.compile(r"predictions\.json|\d{4,}_.*_(mask|heatmap|overlay)\.png", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NAME_BYTES = 200  # of the image name in output names; file systems allow 255 in total


class Job(NamedTuple):
    """An image and phrases.

    Attributes:
      image: path of the image.
      phrases: to segment.
      where: file and line of the job, for errors; "" for the command line.
    """

    image: Path
    phrases: list[Phrase]
    where: str = ""


def read_jobs(image: str | None, texts: Sequence[str], jsonl: str | None) -> list[Job]:
    """Creates jobs from the command's flags; consecutive lines with the same image share a job.

    Raises:
      ConfigError: the flags are inconsistent.
      DataError: a line of the file is invalid; the message contains its number.
    """
    if (image is None) == (jsonl is None):
        raise ConfigError("set either --image and --text, or --jsonl")
    if image is not None:
        if not texts:
            raise ConfigError("--image requires --text, a phrase for the object to segment")
        jobs = [Job(Path(image), [parse(text) for text in texts])]
    else:
        assert jsonl is not None
        if texts:
            raise ConfigError("--text requires --image; with --jsonl, put the texts in the file")
        jobs = []
        for where, file, phrase in _read_lines(Path(jsonl)):
            if not jobs or jobs[-1].image != file:
                jobs.append(Job(file, [], where))
            jobs[-1].phrases.append(phrase)
        if not jobs:
            raise DataError(
                f'{jsonl}: no lines; write one {{"image": FILE, "text": TEXT}} per line.'
            )
    return jobs


@contextlib.contextmanager
def results_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Creates and locks the output folder, and yields it.

    Args:
      folder: output folder.
      overwrite: whether to delete earlier results in it.

    Raises:
      ConfigError: the folder contains results, is not writable, or is locked by another process.
    """
    with only_run_in(folder, "--out"):
        old = [path for path in folder.iterdir() if _OURS.fullmatch(path.name)]
        if old and not overwrite:
            raise ConfigError(
                f"--out {folder} contains results of an earlier prediction; set --out to another "
                "folder or add --overwrite"
            )
        for path in old:
            path.unlink()
        yield folder


def write_predictions(predictor: Predictor, jobs: Sequence[Job], out_dir: Path) -> None:
    """Writes a mask, a heatmap and an overlay for each phrase, and predictions.json.

    The files are `<number>_<image>_mask.png`, 0 and 255 at the original size; `_overlay.png`, the
    outline of the mask on the image; and, with a locator, `_heatmap.png`, its probabilities on the
    image with a colour bar. Phrases are numbered from 0. Unreadable images are skipped and reported
    at the end.

    Raises:
      DataError: some images could not be read; the message lists them.
    """
    entries: list[dict[str, Any]] = []
    failed: list[str] = []
    number = 0
    try:
        pairs = ((job.image, job.phrases) for job in jobs)
        several = predictor.map(pairs, batch_size=1 if len(jobs) == 1 else None)
        for job, result in zip(jobs, several, strict=True):
            if isinstance(result, DataError):
                failed.append(f"{job.where}: image: {result}" if job.where else str(result))
                number += len(job.phrases)
                continue
            for prediction in result:
                entries.append(_write(prediction, job.image, number, out_dir))
                number += 1
    finally:
        if entries:
            write_json(out_dir / "predictions.json", entries)
            print(f"wrote {out_dir}: {len(entries)} sentences", flush=True)
    if len(failed) == 1 == len(jobs):
        raise DataError(failed[0])
    if failed:
        listed = "\n  ".join(failed)
        raise DataError(f"{len(failed)} of {len(jobs)} images could not be read:\n  {listed}")


def _write(result: Prediction, file: Path, number: int, out_dir: Path) -> dict[str, Any]:
    stem = f"{number:04}_{shorten(file.stem, _NAME_BYTES)}"
    mask = Image.fromarray(result.mask.astype(np.uint8) * 255)
    pictures = {"mask": mask, "overlay": result.overlay()}
    if result.heatmap is not None:
        pictures["heatmap"] = drawing.draw_heatmap(result.image, result.heatmap)
    for name, picture in pictures.items():
        write_picture(out_dir / f"{stem}_{name}.png", picture)
    share = result.mask.mean()
    print(f"{file.name}: {result.text!r}: {share:.1%} of the image, box {result.box}", flush=True)
    if result.unknown_words:
        print(f"  words not in the vocabulary: {', '.join(result.unknown_words)}", flush=True)
    if result.unread_words:
        print(f"  the last {len(result.unread_words)} words were truncated", flush=True)
    return {
        "image": str(file),
        "text": result.text,
        "segmentation": result.rle,
        "bbox": result.box,
        "unknown_words": result.unknown_words,
        "unread_words": result.unread_words,
        "files": {name: f"{stem}_{name}.png" for name in pictures},
    }


def _read_lines(path: Path) -> Iterator[tuple[str, Path, Phrase]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    # Not splitlines, which also splits at U+2028 within a text.
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f'{where}: invalid JSON ({error}); expected {{"image": FILE, "text": TEXT}}.'
            ) from error
        for field in ("image", "text"):
            if not isinstance(entry, dict) or not isinstance(entry.get(field), str):
                raise DataError(f'{where}: {field}: expected {{"image": FILE, "text": TEXT}}.')
        if _SURROGATE.search(entry["text"]):
            raise DataError(
                f"{where}: text: contains an unpaired surrogate, which is not a character; remove "
                "it."
            )
        yield where, path.parent / entry["image"], parse(entry["text"], where)
