"""Data of a report's gallery: thumbnails, masks and heatmaps of every sentence."""

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from lts_jax.evaluation.failures import KINDS
from lts_jax.evaluation.kinds import groups
from lts_jax.evaluation.results import unique_roles
from lts_jax.evaluation.saved import Evaluated, Sentence
from lts_jax.experiment.thresholds import name_of
from lts_jax.io import colours, drawing
from tfds_refcoco import masks
from tfds_refcoco.records.text import tokenize

SIDES = (320, 240, 176, 128, 96)  # thumbnail sizes in pixels; the largest within the budget is used
BUDGET = 24e6  # bytes of all thumbnails of a report
_SAMPLE = 24  # number of thumbnails from which their size is estimated
_QUALITY = 60
_HEATMAP_SIDE = 52
COLUMNS = (
    "split",
    "id",
    "text",
    "words",
    "image",
    "truth",
    "heatmap",  # data URI of the last round's heatmap, "" if there is none
    "kinds",
    "ious",  # by threshold, like the next two
    "predictions",
    "failures",  # -1: none
)
"""Columns of a sentence. All but id, text, words, heatmap and ious are indices into other lists."""


def make_gallery(evaluated: Sequence[Evaluated], most: int) -> dict[str, Any]:
    """Collects the data that the page draws.

    Args:
      evaluated: the evaluated splits.
      most: maximum number of sentences; if there are more, an evenly spaced sample is used.

    Returns:
      `splits`, `thresholds`, `kinds`, `failures`: names; `images`: data URIs with their width and
      height; `masks`: COCO RLE at that size; `sentences`: lists in the order of `COLUMNS`;
      `total`: number of all sentences; `style`: colours, see `_style`.
    """
    rows = [(k, row) for k, e in enumerate(evaluated) for row in range(len(e.predictions))]
    total = len(rows)
    if total > most:
        rows = [rows[i] for i in np.linspace(0, total - 1, most).astype(int)]
    side = _choose_side(evaluated, rows)
    roles = thresholds(evaluated)
    kind_names, kinds_of = _kinds(evaluated)
    images: dict[tuple[int, int], int] = {}
    pictures: list[list[Any]] = []
    numbers: dict[str, int] = {}
    sentences: list[list[Any]] = []
    truths: dict[tuple[int, int], int] = {}
    for k, row in rows:
        sentence = evaluated[k].sentence(row)
        key = (k, sentence.record_number)
        if key not in images:
            images[key] = len(pictures)
            pictures.append(_picture(sentence, side))
        _, w, h = pictures[images[key]]

        def number(mask: np.ndarray, w: int = w, h: int = h) -> int:
            small = cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
            text = masks.encode(small >= 0.5).decode("ascii")
            return numbers.setdefault(text, len(numbers))

        of_ref = (k, int(sentence.entry["ref_id"]))
        if of_ref not in truths:
            truths[of_ref] = number(sentence.truth())
        entry = sentence.entry
        parts = [sentence.at(role) for role in roles]
        sentences.append(
            [
                k,
                entry["sent_id"],
                entry["sentence"],
                len(tokenize(entry["sentence"])),
                images[key],
                truths[of_ref],
                _heatmap(sentence),
                kinds_of[k][row],
                [round(part["iou"], 4) for part in parts],
                [number(sentence.prediction(role)) for role in roles],
                [KINDS.index(part["failure"]) if part["failure"] else -1 for part in parts],
            ]
        )
    return {
        "splits": [e.name for e in evaluated],
        "thresholds": list(roles.values()),
        "kinds": kind_names,
        "failures": list(KINDS),
        "images": pictures,
        "masks": list(numbers),
        "sentences": sentences,
        "total": total,
        "style": _style(),
    }


def thresholds(evaluated: Sequence[Evaluated]) -> dict[str, str]:
    """Returns the names of the thresholds at which all splits were scored, by role.

    See `lts_jax.evaluation.results.by_role`.
    """
    of_splits = [unique_roles(e.metrics) for e in evaluated]
    roles = [role for role in of_splits[0] if all(role in of_split for of_split in of_splits)]
    return {
        role: " or ".join(dict.fromkeys(name_of(of_split[role]) for of_split in of_splits))
        for role in roles
    }


def _kinds(evaluated: Sequence[Evaluated]) -> tuple[list[str], list[list[list[int]]]]:
    """Returns the kinds of expressions, and the indices of each sentence's kinds."""
    names: dict[str, int] = {}
    by_split: list[list[list[int]]] = []
    for e in evaluated:
        texts = [entry["sentence"] for entry in e.predictions]
        of_split: list[list[int]] = [[] for _ in texts]
        for name, rows in groups(texts, e.split.index.kind).items():
            number = names.setdefault(name, len(names))
            for row in np.flatnonzero(rows):
                of_split[row].append(number)
        by_split.append(of_split)
    return list(names), by_split


def _style() -> dict[str, Any]:
    """Returns the colours of `lts_jax.io`, which all other figures use too."""
    return {
        "heat": base64.b64encode(colours.table().tobytes()).decode("ascii"),  # RGBA
        "gray": colours.GRAY,
        "prediction": drawing.PREDICTION,
        "truth": drawing.TRUTH,
    }


def frequent_words(evaluated: Sequence[Evaluated], most: int) -> list[str]:
    """Returns the words that occur in most sentences, most frequent first.

    ASCII words of one or two letters are excluded; in other scripts, a word may be one character.
    """
    counts: dict[str, int] = {}
    for e in evaluated:
        for entry in e.predictions:
            for word in set(tokenize(entry["sentence"])):
                counts[word] = counts.get(word, 0) + 1
    known = [
        word
        for word in counts
        if (len(word) > 2 or not word.isascii()) and word not in ("the", "and", "with")
    ]
    return sorted(known, key=lambda word: -counts[word])[:most]


def _choose_side(evaluated: Sequence[Evaluated], rows: Sequence[tuple[int, int]]) -> int:
    """Returns the largest thumbnail size within the budget, estimated from a sample."""
    records = {(k, int(evaluated[k].split.index.record[row])): (k, row) for k, row in rows}
    chosen = [
        list(records.values())[i] for i in np.linspace(0, len(records) - 1, _SAMPLE).astype(int)
    ]
    sample = [evaluated[k].sentence(row) for k, row in chosen]
    for side in SIDES:
        size = sum(len(_picture(sentence, side)[0]) for sentence in sample) / len(sample)
        if size * len(records) <= BUDGET:
            break
    return side


def _picture(sentence: Sentence, side: int) -> list[Any]:
    image = sentence.image()
    h, w = image.shape[:2]
    scale = min(1.0, side / max(h, w))
    size = max(1, round(w * scale)), max(1, round(h * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return [_webp(small[..., ::-1]), *size]


def _heatmap(sentence: Sentence) -> str:
    """Returns the last round's heatmap as a small grayscale WebP data URI, "" if there is none."""
    h, w = sentence.height, sentence.width
    scale = min(1.0, _HEATMAP_SIDE / max(h, w))
    maps = sentence.heatmaps(max(1, round(h * scale)), max(1, round(w * scale)))
    return _webp(np.round(maps[-1] * 255).astype(np.uint8)) if maps else ""


def _webp(pixels: np.ndarray) -> str:
    data = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])[1].tobytes()
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
