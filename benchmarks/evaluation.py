"""Evaluation with one encoding per image against one per sentence: time, and the same results.

    python -m benchmarks.evaluation --config configs/shapes.py [--workdir runs/shapes]

Both ways run the same compiled steps in one process, taking turns after a warm-up; they differ in
`Evaluator.groups` alone. `--against torch` adds both ways of the PyTorch twin. Takes the workdir's
best checkpoint, or random parameters where it has none.
"""

import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
import optax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from benchmarks.machine import describe
from benchmarks.turns import take_turns
from lts_jax import checks, experiment, scoring, sharding, steps
from lts_jax.checkpointing import Checkpoints
from lts_jax.cli import parse_flags
from lts_jax.data import pipeline
from lts_jax.data.tokenizer import Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.evaluate import Evaluator
from lts_jax.huge_pages import start_again
from lts_jax.metrics import METRIC_NAMES
from lts_jax.models import LTS
from lts_jax.optim import make_optimizer
from lts_jax.writers import format_table, write_json
from tfds_refcoco import DataError
from tfds_refcoco.reader import Dataset, Split

WAYS = ("shared", "per sentence")
NEAR = 1e-5  # a probability so close to the threshold may fall on either side


class Setup(NamedTuple):
    """What both ways share."""

    model: LTS
    state: steps.TrainState
    vocabulary: Vocabulary
    parameters: str  # where they come from


def load(config: ConfigDict, dataset: Dataset, workdir: Path | None) -> Setup:
    """Reads the best checkpoint, or draws random parameters where there is none."""
    mesh = sharding.make_mesh()
    if workdir is not None and (workdir / "checkpoints").is_dir():
        with Checkpoints(workdir) as checkpoints:
            step = checkpoints.best_step
            if step is not None:
                best = experiment.restore(config, checkpoints, step, workdir, mesh)
                return Setup(best.model, best.state, best.vocabulary, f"step {step}, the best")
    train = dataset.split(config.data.train_split)
    vocabulary = Vocabulary.build(train.index.text, config.data.min_count)
    model = experiment.make_model(config, vocabulary)
    optimizer = make_optimizer(optax.constant_schedule(0.0))
    state = experiment.fresh_state(config, model, optimizer, mesh)
    return Setup(model, state, vocabulary, f"random, seed {config.seed}")


class FirstImages:
    """A split cut off after its first images; all that evaluation reads of a `Split`."""

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


def probabilities(evaluator: Evaluator, setup: Setup) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each row with its probabilities at the image's own size, float32 `[h, w]`."""
    index, size = evaluator.split.index, evaluator.preprocessing.image_size

    def probability(state: Any, features: Any, placement: Any, batch: Any) -> jax.Array:
        outputs = steps.refer(setup.model, state, features, batch)
        canvas = batch["truth"].shape[1], 8 * batch["truth"].shape[2]
        return scoring.full_probability(outputs.mask, placement[batch["image"]], size, canvas)

    run = steps.on_each_device(probability, evaluator.mesh)
    for images, sentences in evaluator.batches():
        images = sharding.put_batch(images, evaluator.mesh)
        features = evaluator.encode_step(setup.state, images["image"])
        for batch in sentences:
            rows = batch.pop("row")
            put = sharding.put_batch(batch, evaluator.mesh)
            full = np.asarray(run(setup.state, features, images["placement"], put))
            for row, of_row in zip(rows, full, strict=True):
                if row >= 0:
                    yield int(row), of_row[: index.height[row], : index.width[row]]


def compare(evaluators: dict[str, Evaluator], setup: Setup, threshold: float) -> dict[str, Any]:
    """Compares what both ways say of every pixel of every sentence."""
    worst, pixels, differing, near = 0.0, 0, 0, 0
    streams = (probabilities(evaluator, setup) for evaluator in evaluators.values())
    for (row, a), (other, b) in zip(*streams, strict=True):
        if row != other:
            raise RuntimeError(f"row {row} met row {other}")
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


def compare_files(evaluators: dict[str, Evaluator], setup: Setup) -> dict[str, Any]:
    """Writes both ways' predictions.json and compares them, sentence by sentence."""
    with tempfile.TemporaryDirectory() as folder:
        written = []
        for way, evaluator in evaluators.items():
            evaluator.report(setup.state, Path(folder) / way, 0)
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
    """Times all ways on a split and compares ours; see the module."""
    checks.check_config(config)
    dataset = experiment.open_data(config)
    split = dataset.split(name)
    if images is not None:
        split = cast(Split, FirstImages(split, images))
    setup = load(config, dataset, workdir)
    shared = experiment.make_evaluator(
        config, setup.model, split, setup.vocabulary, sharding.make_mesh()
    )
    n = len(split.index)
    alone = dataclasses.replace(shared, groups=[np.array([row]) for row in range(n)])
    evaluators = dict(zip(WAYS, (shared, alone), strict=True))

    def scorer(evaluator: Evaluator) -> Callable[[], dict[str, Any]]:
        return lambda: evaluator.scores(setup.state)

    ways = {way: scorer(evaluator) for way, evaluator in evaluators.items()}
    if against == "torch":
        from benchmarks.torch_evaluation import TorchEvaluator

        for way, evaluator in evaluators.items():
            peer = TorchEvaluator(evaluator, setup.model, setup.state, config.eval.threshold)
            ways[f"torch, {way}"] = peer.scores
    metrics, seconds = take_turns(ways, repeats)
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
        "parameters": setup.parameters,
        "timing": timing,
        "times_faster": slow / fast,
        "comparison": compare(evaluators, setup, config.eval.threshold)
        | compare_files(evaluators, setup),
        **describe(["torch"] if against else []),
        "run": experiment.describe_run(config, split, setup.vocabulary),
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


def define_flags() -> None:
    """Defines the command's flags; not on import, as other commands have some of their names."""
    config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
    flags.DEFINE_string("workdir", None, "Folder of a trained run.")
    flags.DEFINE_string("split", "val", "Evaluated split.")
    flags.DEFINE_integer("repeats", 3, "Timed runs each way.", lower_bound=1)
    flags.DEFINE_enum("against", None, ["torch"], "The peer, in turn.")
    flags.DEFINE_integer("images", None, "Only so many images, the first.", lower_bound=1)
    flags.DEFINE_string("out", None, "JSON file to write.")
    flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Runs what the flags say."""
    if len(argv) > 1:
        sys.exit(f"error: unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)
    given = flags.FLAGS
    workdir = Path(given.workdir) if given.workdir else None
    try:
        result = benchmark(
            given.config, workdir, given.split, given.repeats, given.images, given.against
        )
    except (ConfigError, DataError, OSError) as error:
        sys.exit(f"error: {error}")
    print_result(result)
    if given.out:
        write_json(Path(given.out), result)


if __name__ == "__main__":
    start_again()  # as the command itself does
    define_flags()
    app.run(main, flags_parser=parse_flags)
