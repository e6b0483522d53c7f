"""Predicts for the pictures and sentences of a command line, and writes the results."""

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

# What `write_predictions` writes.
_OURS = re.compile(r"predictions\.json|\d{4,}_.*_(mask|heatmap|overlay)\.png", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NAME_BYTES = 200  # of a picture's name in those of its results; file systems take 255 in all


class Job(NamedTuple):
    """A picture and what to find in it.

    Attributes:
      image: the picture.
      phrases: what to find.
      where: the line that names it, for errors; "" on the command line.
    """

    image: Path
    phrases: list[Phrase]
    where: str = ""


def read_jobs(image: str | None, texts: Sequence[str], jsonl: str | None) -> list[Job]:
    """Makes jobs of the command's flags; lines of one picture in a row share its encoding.

    Raises:
      ConfigError: the flags do not go together.
      DataError: a line of the file is bad; the message names it.
    """
    if (image is None) == (jsonl is None):
        raise ConfigError("give either --image with --text, or --jsonl")
    if image is not None:
        if not texts:
            raise ConfigError("--text: say what to find in --image")
        jobs = [Job(Path(image), [parse(text) for text in texts])]
    else:
        assert jsonl is not None
        if texts:
            raise ConfigError("--text goes with --image; --jsonl holds its own")
        jobs = []
        for where, file, phrase in _read_lines(Path(jsonl)):
            if not jobs or jobs[-1].image != file:
                jobs.append(Job(file, [], where))
            jobs[-1].phrases.append(phrase)
        if not jobs:
            raise DataError(f"{jsonl}: no lines.")
    return jobs


@contextlib.contextmanager
def results_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Makes and locks the folder of the results, and yields it.

    Args:
      folder: of the results.
      overwrite: remove the results of another prediction, if there are any.

    Raises:
      ConfigError: there are such results, it cannot be written, or another prediction is at work.
    """
    with only_run_in(folder, "--out"):
        old = [path for path in folder.iterdir() if _OURS.fullmatch(path.name)]
        if old and not overwrite:
            raise ConfigError(
                f"--out {folder} holds the results of another prediction: name another folder, or "
                "replace them with --overwrite"
            )
        for path in old:
            path.unlink()
        yield folder


def write_predictions(predictor: Predictor, jobs: Sequence[Job], out_dir: Path) -> None:
    """Writes for each sentence a mask, a heatmap and an overlay, and predictions.json for all.

    The pictures are `<number>_<image>_mask.png`, 0 and 255 at the image's size; `_overlay.png`, the
    mask outlined on the image; and `_heatmap.png`, the locator's probabilities over the image, with
    a colour bar below. Without a locator there is no heatmap. Numbers count the sentences from 0.
    A picture that cannot be read does not stop the others.

    Raises:
      DataError: pictures could not be read; the message lists them.
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
        raise DataError(f"{len(failed)} of {len(jobs)} pictures could not be read:\n  {listed}")


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
        print(f"  words that training never saw: {', '.join(result.unknown_words)}", flush=True)
    if result.unread_words:
        print(f"  the last {len(result.unread_words)} words were not read", flush=True)
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
            raise DataError(f"{where}: no JSON ({error}).") from error
        for field in ("image", "text"):
            if not isinstance(entry, dict) or not isinstance(entry.get(field), str):
                raise DataError(f'{where}: {field}: expected {{"image": FILE, "text": TEXT}}.')
        if _SURROGATE.search(entry["text"]):
            raise DataError(
                f"{where}: text: holds half of a surrogate pair, which is no character."
            )
        yield where, path.parent / entry["image"], parse(entry["text"], where)
