"""Compares evaluation with one image encoding per image and per sentence: time and results.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
      python -m benchmarks.evaluation --config configs/shapes.py --workdir runs/shapes

Both variants run the same compiled steps in one process, alternating after a warm-up; they differ
only in `Evaluator.groups`. `--against torch` adds both variants in PyTorch. The network is the
workdir's best checkpoint; without `--workdir`, its parameters are random.
"""

import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.arguments import make_parser, parse_arguments
from benchmarks.machine import describe
from benchmarks.timing import alternate
from lts_jax.cli.arguments import positive
from lts_jax.config.flags import load_config
from lts_jax.data import pipeline
from lts_jax.distributed.mesh import make_mesh, put_batch
from lts_jax.errors import ConfigError
from lts_jax.evaluation.evaluator import Evaluator
from lts_jax.evaluation.metrics import METRIC_NAMES
from lts_jax.experiment.experiment import Experiment
from lts_jax.experiment.restore import Trained, restore
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json
from lts_jax.steps import inference, scoring
from tfds_refcoco import DataError
from tfds_refcoco.records.split import Split

WAYS = ("shared", "per sentence")
NEAR = 1e-5  # a probability this close to the threshold may fall on either side


def load(config: ConfigDict, workdir: Path | None) -> Trained:
    """Loads the best checkpoint, or initializes random parameters without a workdir."""
    if workdir is not None:
        return restore(workdir, make_mesh(), config=config)
    experiment = Experiment(config, make_mesh())
    return Trained(experiment, experiment.initial_state().network(), 0, {}, {}, {})


class FirstImages:
    """The first images of a split, with the attributes that evaluation needs."""

    def __init__(self, split: Split, images: int) -> None:
        self.record = split.record
        n = sum(len(rows) for rows in pipeline.rows_by_image(split)[:images])
        columns = vars(split.index).items()
        self.index = dataclasses.replace(split.index, **{name: v[:n] for name, v in columns})
        kept = {
            "images": len(np.unique(self.index.image_id)),
            "refs": len(np.unique(self.index.ref_id)),
            "sentences": n,
        }
        self.counts = dataclasses.replace(split.counts, **kept)


def probabilities(evaluator: Evaluator, trained: Trained) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each row and its probabilities at the original image size, float32 `[h, w]`."""
    index, size = evaluator.split.index, evaluator.preprocessing.image_size

    def probability(state: Any, features: Any, placement: Any, batch: Any) -> jax.Array:
        outputs = inference.refer(evaluator.model, state, features, batch)
        canvas = batch["truth"].shape[1], 8 * batch["truth"].shape[2]
        return scoring.full_probability(outputs.mask, placement[batch["image"]], size, canvas)

    run = inference.on_each_device(probability, evaluator.mesh)
    for images, sentences in evaluator.batches():
        images = put_batch(images, evaluator.mesh)
        features = evaluator.encode_step(trained.state, images["image"])
        for batch in sentences:
            rows = batch.pop("row")
            put = put_batch(batch, evaluator.mesh)
            full = np.asarray(run(trained.state, features, images["placement"], put))
            for row, of_row in zip(rows, full, strict=True):
                if row >= 0:
                    yield int(row), of_row[: index.height[row], : index.width[row]]


def compare(evaluators: dict[str, Evaluator], trained: Trained) -> dict[str, Any]:
    """Compares the probabilities of both variants for every sentence and pixel."""
    threshold = trained.experiment.thresholds.used.value
    worst, pixels, differing, near = 0.0, 0, 0, 0
    streams = (probabilities(evaluator, trained) for evaluator in evaluators.values())
    for (row, a), (other, b) in zip(*streams, strict=True):
        if row != other:
            raise RuntimeError(f"the rows differ: {row} and {other}")
        worst = max(worst, float(np.abs(a - b).max()))
        pixels += a.size
        differs = (a > threshold) != (b > threshold)
        differing += int(differs.sum())
        near += int((differs & (np.abs(b - threshold) <= NEAR)).sum())
    return {
        "max_abs_probability_difference": worst,
        "pixels": pixels,
        "predicted_pixels_that_differ": differing,
        "of_these_within_1e-5_of_the_threshold": near,
    }


def compare_files(evaluators: dict[str, Evaluator], trained: Trained) -> dict[str, Any]:
    """Writes predictions.json with both variants and compares them, sentence by sentence."""
    with tempfile.TemporaryDirectory() as folder:
        written = []
        for way, evaluator in evaluators.items():
            evaluator.report(trained.state, Path(folder) / way, 0)
            written.append((Path(folder) / way / "predictions.json").read_text(encoding="utf-8"))
    pairs = list(zip(*map(json.loads, written), strict=True))
    return {
        "predictions_json_identical": written[0] == written[1],
        "sentences_that_differ": sum(a != b for a, b in pairs),
        "largest_iou_difference": max(abs(a["iou"] - b["iou"]) for a, b in pairs),
    }


def benchmark(
    config: ConfigDict,
    workdir: Path | None,
    name: str,
    repeats: int,
    images: int | None,
    against: str | None = None,
) -> dict[str, Any]:
    """Times all variants on a split and compares our two; see the module's docstring."""
    trained = load(config, workdir)
    experiment = trained.experiment
    split = experiment.dataset.split(name)
    if images is not None:
        split = cast(Split, FirstImages(split, images))
    shared = Evaluator.from_experiment(experiment, split)
    n = len(split.index)
    alone = dataclasses.replace(shared, groups=[np.array([row]) for row in range(n)])
    evaluators = dict(zip(WAYS, (shared, alone), strict=True))

    def scorer(evaluator: Evaluator) -> Callable[[], dict[str, Any]]:
        return lambda: evaluator.scores(trained.state)

    ways = {way: scorer(evaluator) for way, evaluator in evaluators.items()}
    if against == "torch":
        from benchmarks.peer.evaluation import TorchEvaluator

        for way, evaluator in evaluators.items():
            peer = TorchEvaluator(evaluator, trained.state, shared.thresholds.used.value)
            ways[f"torch, {way}"] = peer.scores
    metrics, seconds = alternate(ways, repeats)
    timing = {
        way: {
            "seconds": seconds[way],
            "median_seconds": statistics.median(seconds[way]),
            "sentences_per_second": n / statistics.median(seconds[way]),
            "images_encoded": len(evaluators[way.removeprefix("torch, ")].groups),
            "metrics": metrics[way],
        }
        for way in ways
    }
    fast, slow = (statistics.median(seconds[way]) for way in WAYS)
    return {
        "split": name,
        "images": split.counts.images,
        "sentences": n,
        "batch_size": shared.batch_size,
        "parameters": f"step {trained.step}, the best"
        if workdir
        else f"random, seed {config.seed}",
        "timing": timing,
        "times_faster": slow / fast,
        "comparison": compare(evaluators, trained) | compare_files(evaluators, trained),
        **describe(["torch"] if against else []),
        "run": experiment.describe(split, trained.weights),
    }


def print_result(result: dict[str, Any]) -> None:
    """Prints the tables."""
    print(f"{result['sentences']} sentences, {result['images']} images ({result['split']})")
    print(f"parameters: {result['parameters']}; {result['run']['devices']}; {result['cpu']}")
    rows = []
    for way, timing in result["timing"].items():
        scores = timing["metrics"]
        rows.append(
            [
                way,
                f"{timing['median_seconds']:.2f}",
                f"{min(timing['seconds']):.2f} to {max(timing['seconds']):.2f}",
                f"{timing['sentences_per_second']:.1f}",
                str(timing["images_encoded"]),
                *("-" if scores.get(k) is None else f"{100 * scores[k]:.4f}" for k in METRIC_NAMES),
            ]
        )
    header = ("encoding", "median s", "spread", "sentences/s", "images encoded", *METRIC_NAMES)
    print(format_table(header, rows))
    print(f"shared is {result['times_faster']:.2f} times faster")
    for key, value in result["comparison"].items():
        print(f"{key.replace('_', ' ')}: {value}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__, config=True)
    parser.add_argument("--workdir", type=Path, help="folder of a trained run")
    parser.add_argument("--split", default="val", help="to evaluate")
    parser.add_argument("--images", type=positive, help="evaluate only the first N images")
    parser.add_argument(
        "--repeats", type=positive, default=3, help="number of timed runs per variant"
    )
    parser.add_argument("--against", choices=["torch"], help="compare with PyTorch, alternating")
    args = parse_arguments(parser, arguments)
    try:
        config = load_config(args.config, args.overrides)
        result = benchmark(
            config, args.workdir, args.split, args.repeats, args.images, args.against
        )
    except (ConfigError, DataError, OSError) as error:
        sys.exit(f"error: {error}")
    print_result(result)
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
