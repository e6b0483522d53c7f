"""Scores a network on generated expressions, compared with language-blind baselines.

    python -m benchmarks.photos --model photos --data data/photos --split test --out test.json

- `model`: the network.
- `shuffled`: the network, with each sentence replaced by one about another image.
- `largest`: the largest object in the image that any sentence refers to.
- `centre`: the mean mask of `--train`, at its best threshold on that split.

To score a network that was trained with hidden sentences, set `--model` and omit `--controls`.
"""

import argparse
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import tfds_refcoco
from benchmarks import machine
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.data.examples import Batch, Preprocessing, read_mask
from lts_jax.distributed.mesh import one_device
from lts_jax.evaluation import bootstrap
from lts_jax.evaluation.bootstrap import Scores
from lts_jax.evaluation.evaluator import Evaluator
from lts_jax.evaluation.metrics import iou
from lts_jax.experiment.pretrained import load_pretrained
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json
from tfds_refcoco.records.split import Split

_SHOWN = ("oiou", "miou", "prec@0.5", "pointing")
_GRID = 64  # side of the mean mask
_SEEN = ((0, 100), (100, 1000), (1000, None))  # sentences about a category in training


@dataclasses.dataclass(frozen=True)
class _Shuffled(Preprocessing):
    """Replaces the split's sentences."""

    texts: tuple[str, ...] = ()

    def eval_example(self, split: Split, rows: np.ndarray, canvas: tuple[int, int]) -> Batch:
        example = super().eval_example(split, rows, canvas)
        sentences = [self.sentence(self.texts[row]) for row in rows]
        return example | {k: np.stack([s[k] for s in sentences]) for k in sentences[0]}


def shuffled_texts(split: Split, seed: int) -> tuple[str, ...]:
    """Returns, for every sentence, the text of a sentence about another image."""
    index, rng = split.index, np.random.default_rng(seed)
    texts = []
    for row in range(len(index)):
        others = np.flatnonzero(index.image_id != index.image_id[row])
        texts.append(index.text[int(rng.choice(others))])
    return tuple(texts)


def largest_object(split: Split) -> Scores:
    """Scores the largest referred object of each image."""
    index = split.index
    predicted: dict[int, NDArray[np.bool]] = {}
    for row in range(len(index)):
        record = int(index.record[row])
        mask = _truth(split, row)
        if record not in predicted or mask.sum() > predicted[record].sum():
            predicted[record] = mask
    return _score(split, [predicted[int(record)] for record in index.record])


def centre_prior(split: Split, train: Split) -> Scores:
    """Scores the mean mask of `train` on the sentences of `split`."""
    size = (_GRID, _GRID)
    small = np.stack(
        [
            cv2.resize(_truth(train, row).astype(np.float32), size, interpolation=cv2.INTER_AREA)
            for row in range(len(train.index))
        ]
    )
    mean = small.mean(axis=0)
    best = max(
        np.linspace(0.05, 0.95, 19) * mean.max(),
        key=lambda t: iou(
            np.minimum(small, mean > t).sum((1, 2)), np.maximum(small, mean > t).sum((1, 2))
        ).mean(),
    )
    predicted = []
    for h, w in zip(split.index.height, split.index.width, strict=True):
        predicted.append(np.asarray(cv2.resize(mean, (int(w), int(h)))) > best)
    return _score(split, predicted)


def _truth(split: Split, row: int) -> NDArray[np.bool]:
    index = split.index
    record = split.record(int(index.record[row]))
    size = int(index.height[row]), int(index.width[row])
    return read_mask(record, int(index.sentence[row]), *size) > 0


def _score(split: Split, predicted: list[NDArray[np.bool]]) -> Scores:
    both = [(mask, _truth(split, row)) for row, mask in enumerate(predicted)]
    return Scores(
        split.index.image_id,
        np.array([(mask & truth).sum() for mask, truth in both]),
        np.array([(mask | truth).sum() for mask, truth in both]),
        None,
    )


def describe(scores: Scores) -> dict[str, Any]:
    """Returns metrics with 95 % intervals."""
    return {**scores.summarize(), "intervals": bootstrap.intervals(scores)}


def by_group(scores: Scores, split: Split, train: Split) -> dict[str, Any]:
    """Returns metrics by kind of expression, by size, and by training frequency of the category."""
    index, counted = split.index, Counter(train.index.category)
    kind = np.array(index.kind)
    share = index.area / (index.height * index.width)
    seen = np.array([counted[category] for category in index.category])
    rows = {f"kind: {name}": kind == name for name in np.unique(kind).tolist()}
    held = np.array([name.endswith("new wording") for name in index.kind])
    rows |= {"wording: as in train": ~held, "wording: held back": held}
    for low, high in ((0.0, 0.03), (0.03, 0.1), (0.1, 0.3), (0.3, 1.01)):
        rows[f"area: {low:.0%} to {min(high, 1):.0%}"] = (share >= low) & (share < high)
    for least, most in _SEEN:
        chosen = (seen >= least) & (seen < (most or np.inf))
        rows[f"category: {least} to {most or '…'} sentences in train"] = chosen
    described = {}
    for name, chosen in rows.items():
        if chosen.any():
            part = scores.take(chosen)
            described[name] = {"sentences": int(chosen.sum()), **describe(part)}
    return described


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Scores everything."""
    trained = load_pretrained(args.model, one_device(), [f"--config.data.dir={args.data}"])
    dataset = tfds_refcoco.open_dataset(args.data, args.dataset)
    split = dataset.split(args.split)
    evaluator = Evaluator.from_experiment(trained.experiment, split)
    scores = evaluator.find(trained.state, pictures=False).scores(split)
    result: dict[str, Any] = {"model": describe(scores)}
    if args.controls:
        texts = shuffled_texts(split, args.seed)
        fields = {
            field.name: getattr(evaluator.preprocessing, field.name)
            for field in dataclasses.fields(Preprocessing)
        }
        other = dataclasses.replace(evaluator, preprocessing=_Shuffled(**fields, texts=texts))
        result["shuffled"] = describe(other.find(trained.state, pictures=False).scores(split))
        result["largest"] = describe(largest_object(split))
    if args.train:
        train = dataset.split(args.train)
        if args.controls:
            result["centre"] = describe(centre_prior(split, train))
        result["groups"] = by_group(scores, split, train)
    head = {"model": args.model, "split": args.split, "sentences": len(split.index)}
    return head | {"images": len(np.unique(split.index.image_id)), "scores": result}


def main() -> None:
    """Prints the tables and writes --out."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True, help="see `lts predict --model`")
    parser.add_argument("--data", type=Path, required=True, help="folder of the built datasets")
    parser.add_argument("--dataset", default="custom")
    parser.add_argument("--split", default="val")
    parser.add_argument(
        "--train", default="", help="split for `centre` and the groups (default: none)"
    )
    parser.add_argument("--controls", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="seed of the shuffled sentences")
    args = parse_arguments(parser)
    result = run(args)
    groups = result["scores"].get("groups", {})
    rows = []
    for name, metrics in (result["scores"] | groups).items():
        if name != "groups":
            cells = [_cell(metrics, k) for k in _SHOWN]
            rows.append([name, str(metrics.get("sentences", "")), *cells])
    print(format_table(("%", "sentences", *_SHOWN), rows))
    if args.out:
        write_json(args.out, result | {"machine": machine.describe(["jax", "numpy"])})


def _cell(metrics: dict[str, Any], name: str) -> str:
    if metrics.get(name) is None:
        return "-"
    low, high = metrics["intervals"][name]
    return f"{100 * metrics[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    main()
