"""Predicts for the pictures and sentences of a command line, and writes the results."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lts_jax.errors import ConfigError
from lts_jax.inference.predictor import Phrase, Prediction, Predictor, parse
from lts_jax.io import drawing
from lts_jax.io.files import write_json, write_picture
from tfds_refcoco import DataError


class Job(NamedTuple):
    """A picture and what to find in it."""

    image: Path
    phrases: list[Phrase]


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
            if not file.is_file():
                raise DataError(f"{where}: image: no file {file}.")
            if not jobs or jobs[-1].image != file:
                jobs.append(Job(file, []))
            jobs[-1].phrases.append(phrase)
        if not jobs:
            raise DataError(f"{jsonl}: no lines.")
    return jobs


def write_predictions(predictor: Predictor, jobs: Sequence[Job], out_dir: Path) -> None:
    """Writes for each sentence a mask, a heatmap and an overlay, and predictions.json for all.

    The pictures are `<number>_<image>_mask.png`, 0 and 255 at the image's size; `_heatmap.png`,
    8-bit probabilities; and `_overlay.png`. Without a locator there is no heatmap. Numbers count
    the sentences from 0.

    Raises:
      DataError: a picture cannot be read; what was found before is written.
    """
    entries: list[dict[str, Any]] = []
    try:
        for job in jobs:
            encoded = predictor.encode(job.image)
            for phrase in job.phrases:
                found = predictor.find(encoded, phrase)
                entries.append(_write(found, encoded.image, job.image, len(entries), out_dir))
    finally:
        if entries:
            write_json(out_dir / "predictions.json", entries)
            print(f"wrote {out_dir}: {len(entries)} sentences", flush=True)


def _write(
    found: Prediction, image: np.ndarray, file: Path, number: int, out_dir: Path
) -> dict[str, Any]:
    stem = f"{number:04}_{file.stem}"
    pictures = {
        "mask": found.mask.astype(np.uint8) * 255,
        "overlay": drawing.overlay_mask(image, found.mask, drawing.RED),
    }
    if found.heatmap is not None:
        pictures["heatmap"] = np.round(found.heatmap * 255).astype(np.uint8)
    for name, pixels in pictures.items():
        write_picture(out_dir / f"{stem}_{name}.png", Image.fromarray(pixels))
    share = found.mask.mean()
    print(f"{file.name}: {found.text!r}: {share:.1%} of the image, box {found.box}", flush=True)
    if found.unknown_words:
        print(f"  words that training never saw: {', '.join(found.unknown_words)}", flush=True)
    if found.unread_words:
        print(f"  the last {len(found.unread_words)} words were not read", flush=True)
    return {
        "image": str(file),
        "text": found.text,
        "segmentation": found.rle,
        "bbox": found.box,
        "unknown_words": found.unknown_words,
        "unread_words": found.unread_words,
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
        except ValueError as error:
            raise DataError(f"{where}: no JSON ({error}).") from error
        for field in ("image", "text"):
            if not isinstance(entry, dict) or not isinstance(entry.get(field), str):
                raise DataError(f'{where}: {field}: expected {{"image": FILE, "text": TEXT}}.')
        yield where, path.parent / entry["image"], parse(entry["text"], where)
