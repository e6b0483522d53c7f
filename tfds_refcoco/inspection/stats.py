"""Statistics of a built dataset, by split: sentence lengths, words and objects."""

import collections
from typing import Any

import numpy as np

from tfds_refcoco.records.reader import Dataset
from tfds_refcoco.records.split import Split
from tfds_refcoco.records.text import tokenize

_LONG = (15, 20)  # words; LTS truncates sentences of RefCOCO and RefCOCOg at these lengths
_MIN_COUNTS = (1, 2, 5)  # minimum counts of a vocabulary's words
_COMMON = 20  # number of words printed
_BARS = 40  # length of the longest bar in characters


def describe(built: Dataset) -> dict[str, Any]:
    """Returns the statistics of a built dataset, from its index.

    Per split: `images`, `objects`, `refs`, `sentences`, `objects_per_image` and
    `sentences_per_ref` (means), `words` (mean, median, 95th percentile and largest number in a
    sentence), `longer` (fraction of sentences longer than 15 and 20 words), `lengths` (sentences by
    number of words) and `targets` (sentences by number of targets). For train also `vocabulary`:
    number of words by minimum count. For other splits `unknown`: the fraction of words that are
    not in train, and of sentences with such a word. For all splits together `common`: the most
    frequent words.
    """
    words = {
        name: [tokenize(text) for text in built.split(name).index.text] for name in built.splits
    }
    counts = {
        name: collections.Counter(word for sentence in of_split for word in sentence)
        for name, of_split in words.items()
    }
    splits = {}
    for name in built.splits:
        described = _describe_split(built.split(name), words[name])
        if name == "train":
            described["vocabulary"] = {
                str(least): sum(n >= least for n in counts[name].values()) for least in _MIN_COUNTS
            }
        elif "train" in counts:
            unknown = {word for word in counts[name] if word not in counts["train"]}
            described["unknown"] = {
                "words": sum(counts[name][word] for word in unknown) / max(1, counts[name].total()),
                "sentences": float(np.mean([not unknown.isdisjoint(s) for s in words[name]])),
            }
        splits[name] = described
    everything: collections.Counter[str] = sum(counts.values(), collections.Counter())
    return {
        "dataset": built.name,
        "splits": splits,
        "common": dict(everything.most_common(_COMMON)),
    }


def _describe_split(split: Split, sentences: list[list[str]]) -> dict[str, Any]:
    index, counts = split.index, split.counts
    lengths = np.array([len(sentence) for sentence in sentences])
    return {
        "images": counts.images,
        "refs": counts.refs,
        "sentences": counts.sentences,
        "objects": counts.objects,
        "objects_per_image": counts.objects / counts.images,
        "sentences_per_ref": counts.sentences / counts.refs,
        "words": {
            "mean": float(lengths.mean()),
            "median": float(np.median(lengths)),
            "p95": float(np.percentile(lengths, 95)),
            "max": int(lengths.max()),
        },
        "longer": {str(n): float(np.mean(lengths > n)) for n in _LONG},
        "lengths": {str(n): int(k) for n, k in enumerate(np.bincount(lengths)) if k},
        "targets": {str(n): int(k) for n, k in enumerate(np.bincount(index.targets)) if k},
    }


def format_stats(stats: dict[str, Any]) -> str:
    """Returns the statistics as text."""
    splits = stats["splits"]
    lines = [stats["dataset"], "", f"{'':<28}" + "".join(f"{name:>10}" for name in splits)]

    def row(label: str, value: Any, form: str = ",") -> None:
        cells = [value(s) for s in splits.values()]
        shown = ["-" if cell is None else format(cell, form) for cell in cells]
        lines.append(f"{label:<28}" + "".join(f"{cell:>10}" for cell in shown))

    row("images", lambda s: s["images"])
    row("objects", lambda s: s["objects"])
    row("refs", lambda s: s["refs"])
    row("sentences", lambda s: s["sentences"])
    row("objects per image", lambda s: s["objects_per_image"], ".2f")
    row("sentences per ref", lambda s: s["sentences_per_ref"], ".2f")
    for name in ("mean", "median", "p95", "max"):
        row(f"words in a sentence, {name}", lambda s, n=name: s["words"][n], ".2f")
    for most in _LONG:
        row(f"longer than {most} words", lambda s, n=most: s["longer"][str(n)], ".2%")
    for number in sorted({n for s in splits.values() for n in s["targets"]}, key=int):
        label = f"sentences for {number} object{'' if number == '1' else 's'}"
        row(label, lambda s, n=number: s["targets"].get(n, 0))
    row("unknown words", lambda s: s.get("unknown", {}).get("words"), ".2%")
    row("sentences with one", lambda s: s.get("unknown", {}).get("sentences"), ".2%")
    for least, number in splits.get("train", {}).get("vocabulary", {}).items():
        lines.append(f"words that occur at least {least} times in train: {number:,}")
    sentences: collections.Counter[int] = collections.Counter()
    for split in splits.values():
        sentences.update({int(n): k for n, k in split["lengths"].items()})
    lines += ["", "sentences by number of words, all splits"]
    most = max(sentences.values())
    for number in range(max(sentences) + 1):
        if sentences[number]:
            bar = "█" * max(1, round(_BARS * sentences[number] / most))
            lines.append(f"{number:>4} {sentences[number]:>9,} {bar}")
    lines += ["", "most frequent words: " + " ".join(stats["common"])]
    return "\n".join(lines)
