"""Compares two runs on the same sentences.

A run is an evaluated workdir, a folder written by `lts score --out`, or a predictions.json from
either.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lts_jax.errors import ConfigError
from lts_jax.evaluation import bootstrap, breakdowns, kinds, metrics, results, schema
from lts_jax.evaluation.bootstrap import Scores
from lts_jax.experiment import thresholds
from lts_jax.io.console import format_table
from lts_jax.io.json_files import read_json

_COLUMNS = ("A", "B", "B - A", "95 % interval", "p")


class ScoredRun(NamedTuple):
    """The scored sentences of a run.

    Attributes:
      sentences: entries of predictions.json, sorted by sent_id.
      summary: the thresholds in metrics.json of the same folder; {} if that file does not exist.
    """

    sentences: list[dict[str, Any]]
    summary: dict[str, Any]

    def at(self) -> dict[str, tuple[str, list[dict[str, Any]]]]:
        """Returns name and sentences of each threshold by role; see `results.by_role`.

        An unknown threshold has all roles.
        """
        if not self.summary:
            return dict.fromkeys(("number", "val"), ("", self.sentences))
        of_other = [entry | entry.get("other", {}) for entry in self.sentences]
        return {
            role: (thresholds.name_of(part), self.sentences if part is self.summary else of_other)
            for role, part in results.by_role(self.summary).items()
        }


def read_run(path: Path, split: str) -> ScoredRun:
    """Reads the scored sentences of a run.

    Raises:
      ConfigError: predictions.json is missing, has no scores, or has an invalid or repeated
        sent_id; or the evaluation was interrupted.
    """
    # With several datasets, split names are prefixed by the dataset; a run on one has no prefix.
    names = [split, *([split.rpartition("/")[2]] if "/" in split else [])]
    tried = [path / "eval" / name / "predictions.json" for name in names]
    tried.append(path / "predictions.json")
    file = next((p for p in tried if p.exists()), tried[0]) if path.is_dir() else path
    root = path / "eval"
    others = sorted(p.parent.relative_to(root).as_posix() for p in root.rglob("run.json"))
    if not file.exists() and others:
        raise ConfigError(
            f"{path} has no evaluation of {split}; set --split to one of: {', '.join(others)}"
        )
    if file in tried[:-1] and not file.with_name("run.json").exists():
        raise ConfigError(f"{file.parent}: the evaluation was interrupted; {schema.AGAIN}")
    fix = "no scored predictions: create them with lts eval or lts score --out DIR"
    entries: list[dict[str, Any]] = read_json(file, schema.SCORED, fix)
    ids = set()
    for number, entry in enumerate(entries):
        if entry["sent_id"] in ids:
            raise ConfigError(
                f"{file}[{number}]: sent_id {entry['sent_id']} is repeated; keep one entry per "
                "sent_id"
            )
        ids.add(entry["sent_id"])
    metrics_file, summary = file.with_name("metrics.json"), {}
    if file.name == "predictions.json" and metrics_file.exists():
        read = read_json(metrics_file, schema.METRICS, schema.AGAIN)
        summary = {k: read[k] for k in ("threshold", "chosen_on", "other") if k in read}
        if ("other" in summary) != ("other" in entries[0]):
            raise ConfigError(f"{file} does not match metrics.json in this folder; {schema.AGAIN}")
    return ScoredRun(sorted(entries, key=lambda entry: entry["sent_id"]), summary)


def compare(a: ScoredRun, b: ScoredRun) -> dict[str, Any]:
    """Compares two runs on the same sentences.

    The runs are compared at the thresholds of their configs and at those chosen on val.

    Args:
      a: from `read_run`.
      b: from `read_run`, with the same sentences.

    Returns:
      `sentences`, `images`, and `thresholds`: the results of `_compare` at one or two thresholds.

    Raises:
      ConfigError: the runs have different sentences.
    """
    ids_a, ids_b = (
        [(e["sent_id"], e["image_id"], e["sentence"]) for e in x.sentences] for x in (a, b)
    )
    if ids_a != ids_b:
        only = sorted({e[0] for e in ids_a} ^ {e[0] for e in ids_b})
        why = (
            f"{len(only)} sentences are in only one run, for example sent_id {only[:5]}"
            if only
            else "their texts or image ids differ"
        )
        raise ConfigError(
            f"the runs were not scored on the same sentences: {why}; evaluate both on the same "
            "split of the same data"
        )
    at_a, at_b = a.at(), b.at()
    pairs = [(at_a[role], at_b[role]) for role in at_a if role in at_b]
    compared = [_compare(*pair) for i, pair in enumerate(pairs) if pair not in pairs[:i]]
    return {
        "sentences": len(ids_a),
        "images": len({image_id for _, image_id, _ in ids_a}),
        "thresholds": compared,
    }


def _compare(
    a: tuple[str, list[dict[str, Any]]], b: tuple[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Compares two runs at one threshold each.

    Returns:
      `a` and `b`, the names of the thresholds, "" if unknown; `metrics` from
      `lts_jax.evaluation.bootstrap.differences`; `kinds`, the same metrics by kind of expression;
      `better`, counts of sentences; and `sentence_by_sentence`, largest IoU difference first.
    """
    scores_a, scores_b = _scores(a[1]), _scores(b[1])
    iou_a, iou_b = (metrics.iou(s.intersection, s.union) for s in (scores_a, scores_b))
    order = np.argsort(-np.abs(iou_b - iou_a), kind="stable")
    return {
        "a": a[0],
        "b": b[0],
        "metrics": bootstrap.differences(scores_a, scores_b),
        "kinds": _by_kind(a[1], b[1], scores_a, scores_b),
        "better": {
            "a": int((iou_a > iou_b).sum()),
            "b": int((iou_b > iou_a).sum()),
            "neither": int((iou_a == iou_b).sum()),
        },
        "sentence_by_sentence": [
            {name: a[1][i][name] for name in ("sent_id", "image_id", "sentence")}
            | {"iou_a": float(iou_a[i]), "iou_b": float(iou_b[i])}
            for i in order
        ],
    }


def _by_kind(
    a: list[dict[str, Any]], b: list[dict[str, Any]], scores_a: Scores, scores_b: Scores
) -> list[dict[str, Any]]:
    """Compares the groups of `lts_jax.evaluation.kinds`; kinds may be recorded in one run only."""
    texts = [entry["sentence"] for entry in a]
    recorded = [of_a.get("kind") or of_b.get("kind", "") for of_a, of_b in zip(a, b, strict=True)]
    return [
        {
            "group": name,
            "sentences": int(rows.sum()),
            "metrics": bootstrap.differences(
                scores_a.take(rows), scores_b.take(rows), breakdowns.DRAWS
            ),
        }
        for name, rows in kinds.groups(texts, recorded).items()
    ]


def _scores(entries: list[dict[str, Any]]) -> Scores:
    image_id, intersection, union = (
        np.array([e[name] for e in entries]) for name in ("image_id", "intersection", "union")
    )
    pointing = None
    if all("hit" in e for e in entries):
        pointing = np.array([np.nan if e["hit"] is None else e["hit"] for e in entries], float)
    area = np.array([e["area"] for e in entries]) if all("area" in e for e in entries) else None
    boxes = None
    if all("box_iou" in e for e in entries):
        boxes = np.array([np.nan if e["box_iou"] is None else e["box_iou"] for e in entries], float)
    return Scores(image_id, intersection, union, pointing, area, boxes)


def print_comparison(comparison: dict[str, Any], examples: int) -> None:
    """Prints the metrics and the sentences with the largest IoU differences in each direction."""
    print(
        f"{comparison['sentences']} sentences of {comparison['images']} images, "
        "bootstrap over images"
    )
    for part in comparison["thresholds"]:
        a, b = (part[run] or "an unknown threshold" for run in ("a", "b"))
        print(f"\nA at {a}, B at {b}")
        _print_metrics(part)
    _print_examples(comparison["thresholds"][0], examples)


def _print_metrics(part: dict[str, Any]) -> None:
    rows = [[name, *_cells(values)] for name, values in part["metrics"].items()]
    print(format_table(("%", *_COLUMNS), rows))
    rows = [
        [group["group"], str(group["sentences"]), *_cells(group["metrics"]["miou"])]
        for group in part["kinds"]
    ]
    print(format_table(("mIoU by kind, %", "sentences", *_COLUMNS), rows))
    better = part["better"]
    print(f"A is better in {better['a']} sentences, B in {better['b']}, {better['neither']} equal")


def _cells(values: dict[str, Any] | None) -> list[str]:
    """Formats a metric of both runs and its difference; dashes if undefined."""
    if values is None:
        return ["-"] * len(_COLUMNS)
    low, high = values["interval"]
    numbers = [f"{100 * values[k]:.2f}" for k in ("a", "b")]
    numbers.append(f"{100 * values['difference']:+.2f}")
    return [*numbers, f"{100 * low:+.2f} to {100 * high:+.2f}", f"{values['p']:.3f}"]


def _print_examples(part: dict[str, Any], examples: int) -> None:
    for name, sign in (("B", 1), ("A", -1)):
        differing = [
            e for e in part["sentence_by_sentence"] if sign * (e["iou_b"] - e["iou_a"]) > 0
        ]
        if not differing or not examples:
            continue
        print(f"\nlargest gains of {name}:")
        lines = [
            [e["sentence"], str(e["sent_id"]), str(e["image_id"])]
            + [f"{e[k]:.3f}" for k in ("iou_a", "iou_b")]
            for e in differing[:examples]
        ]
        print(format_table(("sentence", "sent_id", "image_id", "IoU A", "IoU B"), lines))
