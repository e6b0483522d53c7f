"""The training loop, and what surrounds it."""

import math
import time
from pathlib import Path
from typing import Any

import jax
import optax
from clu import parameter_overview
from ml_collections import ConfigDict

from lts_jax import experiment, sharding
from lts_jax.checkpointing import Checkpoints
from lts_jax.data import pipeline
from lts_jax.data.tokenizer import Vocabulary
from lts_jax.evaluate import METRIC_NAMES
from lts_jax.models import LTS
from lts_jax.optim import make_optimizer, make_schedule
from lts_jax.steps import TrainState, compile_train_step, init_state
from lts_jax.writers import MetricWriter, format_table, write_json
from tfds_refcoco.reader import Dataset


def train_and_evaluate(config: ConfigDict, workdir: Path) -> dict[str, dict[str, float]]:
    """Trains, going on from the workdir's latest checkpoint, and evaluates the best one.

    Returns:
      The metrics of each of `config.eval.splits`.

    Raises:
      ValueError: the config contradicts itself, the devices or the workdir's run.
      tfds_refcoco.DataError: the data is missing or bad.
      FloatingPointError: the loss is no longer finite; the checkpoints before it stay.
    """
    # 1. Data, and the vocabulary of its training split.
    dataset = experiment.open_data(config)
    split = dataset.split(config.data.train_split)
    vocabulary = Vocabulary.build(split.index.text, config.data.min_count)
    preprocessing = experiment.make_preprocessing(config, vocabulary)
    _print_data(config, dataset, vocabulary)

    # 2. Devices, network, optimizer; the state is drawn directly into its place.
    mesh = sharding.make_mesh()
    sharding.check_batch_size("train.batch_size", config.train.batch_size, mesh)
    model = experiment.make_model(config, vocabulary)
    evaluator = experiment.make_evaluator(
        config, model, dataset, config.eval.best_split, vocabulary, mesh
    )
    per_epoch = pipeline.epoch_length(split, config.train.epoch_unit) / config.train.batch_size
    total_steps = max(1, math.ceil(config.train.epochs * per_epoch))
    eval_every = max(1, round(config.eval.every_epochs * per_epoch))
    schedule = make_schedule(
        config.train.learning_rate, config.train.drop_epochs, config.train.drop_factor, per_epoch
    )
    optimizer = make_optimizer(schedule)
    abstract = abstract_state(config, model, optimizer, mesh)
    _print_devices(abstract, mesh)

    # 3. Where an earlier run stopped.
    workdir.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(workdir)
    batches = iter(
        pipeline.train_batches(
            split,
            preprocessing,
            batch_size=config.train.batch_size,
            seed=config.seed,
            epoch_unit=config.train.epoch_unit,
            threads=config.data.threads,
        )
    )
    start = checkpoints.latest_step or 0
    if start:
        saved_config, words = checkpoints.read_config(start)
        experiment.check_same_run(saved_config, config, workdir)
        if tuple(words) != vocabulary.words:
            raise ValueError(
                f"{workdir} was trained with another vocabulary ({len(words)} words, now "
                f"{len(vocabulary.words)}): the data has changed. Take another --workdir."
            )
        state = checkpoints.restore_state(start, abstract)
        checkpoints.restore_iterator(start, batches)
        print(f"resumed from step {start} of {total_steps}", flush=True)
    else:
        state = _init(config, model, optimizer, mesh)
    write_json(workdir / "config.json", experiment.plain_config(config))

    # 4. The loop.
    train_step = compile_train_step(model, optimizer, config.train.location_weight, mesh)
    writer = MetricWriter(workdir, start)
    progress = _Progress(start, total_steps, config.train.batch_size)
    for step in range(start + 1, total_steps + 1):
        batch = sharding.put_batch(next(batches), mesh)
        state, losses = train_step(state, batch)
        last = step == total_steps
        if step % config.train.log_every == 0 or step == start + 1 or last:
            scalars = {name: float(value) for name, value in losses.items()}
            if not math.isfinite(scalars["loss"]):
                raise FloatingPointError(
                    f"the loss is {scalars['loss']} at step {step}; the last good checkpoint is "
                    f"step {checkpoints.latest_step}. Lower train.learning_rate."
                )
            scalars |= {"learning_rate": float(schedule(step - 1)), "epoch": step / per_epoch}
            scalars |= progress.report(step, scalars["loss"], step / per_epoch)
            writer.write(step, {f"train/{k}": v for k, v in scalars.items()})
        if step % eval_every == 0 or last:
            with progress.paused():
                metrics = evaluator.scores(state)
                line = "  ".join(f"{k} {metrics[k]:.4f}" for k in ("oiou", "miou", "pointing"))
                print(f"step {step}  {config.eval.best_split}: {line}", flush=True)
                named = {f"{config.eval.best_split}/{k}": metrics[k] for k in METRIC_NAMES}
                writer.write(step, named)
                checkpoints.save(
                    step,
                    state,
                    batches,
                    experiment.plain_config(config),
                    list(vocabulary.words),
                    metrics,
                )
    writer.close()
    checkpoints.close()

    # 5. The results.
    return evaluate(config, workdir)


def evaluate(config: ConfigDict, workdir: Path) -> dict[str, dict[str, float]]:
    """Evaluates the workdir's best checkpoint on `config.eval.splits`, and prints the table.

    Writes `eval/<split>/metrics.json`, `predictions.json` and `gallery.png` to the workdir.

    Raises:
      ValueError: the workdir holds no checkpoint, or the config describes another network.
      tfds_refcoco.DataError: the data is missing or bad.
    """
    if not (workdir / "checkpoints").is_dir():
        raise ValueError(f"{workdir} holds no checkpoint: train first, or give another --workdir")
    checkpoints = Checkpoints(workdir)
    step = checkpoints.best_step
    if step is None:
        raise ValueError(f"{workdir} holds no checkpoint: train first, or give another --workdir")
    saved_config, words = checkpoints.read_config(step)
    experiment.check_same_model(saved_config, config, workdir)
    vocabulary = Vocabulary(words)
    dataset = experiment.open_data(config)
    mesh = sharding.make_mesh()
    model = experiment.make_model(config, vocabulary)
    state = checkpoints.restore_state(
        step, abstract_state(config, model, make_optimizer(optax.constant_schedule(0.0)), mesh)
    )
    checkpoints.close()
    print(f"evaluating step {step}, the best on {config.eval.best_split}", flush=True)
    results = {}
    for name in config.eval.splits:
        evaluator = experiment.make_evaluator(config, model, dataset, name, vocabulary, mesh)
        out_dir = workdir / "eval" / name
        results[name] = evaluator.report(state, out_dir, config.eval.gallery)
        print(f"wrote {out_dir}", flush=True)
    print(_results_table(results), flush=True)
    return results


def abstract_state(
    config: ConfigDict, model: LTS, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> TrainState:
    """Shapes, dtypes and shardings of the state, without computing it."""
    args = (config.seed, config.data.image_size, config.data.max_words)
    shapes = jax.eval_shape(lambda: init_state(model, optimizer, *args))
    place = sharding.replicated(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)


def _init(
    config: ConfigDict, model: LTS, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> TrainState:
    args = (config.seed, config.data.image_size, config.data.max_words)
    init = jax.jit(
        lambda: init_state(model, optimizer, *args), out_shardings=sharding.replicated(mesh)
    )
    return init()


class _Progress:
    """The line that tells how fast a run goes and when it ends."""

    def __init__(self, start: int, total: int, batch_size: int):
        self._total, self._batch_size = total, batch_size
        self._step, self._time = start, time.perf_counter()

    def report(self, step: int, loss: float, epoch: float) -> dict[str, float]:
        """Prints the line; the speed is that since the last one."""
        now = time.perf_counter()
        steps_per_second = (step - self._step) / (now - self._time)
        self._step, self._time = step, now
        images = steps_per_second * self._batch_size
        eta = round((self._total - step) / steps_per_second)
        print(
            f"step {step}/{self._total}  epoch {epoch:.2f}  loss {loss:.1f}  "
            f"{steps_per_second:.2f} steps/s  {images:.1f} images/s  "
            f"ETA {eta // 3600}:{eta // 60 % 60:02}:{eta % 60:02}",
            flush=True,
        )
        return {"steps_per_second": steps_per_second, "images_per_second": images}

    def paused(self) -> "_Pause":
        """A context whose time does not count."""
        return _Pause(self)

    def skip(self, seconds: float) -> None:
        """Leaves some seconds out of the speed."""
        self._time += seconds


class _Pause:
    def __init__(self, progress: _Progress):
        self._progress = progress

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self._progress.skip(time.perf_counter() - self._start)


def _print_data(config: ConfigDict, dataset: Dataset, vocabulary: Vocabulary) -> None:
    names = dict.fromkeys((config.data.train_split, config.eval.best_split, *config.eval.splits))
    rows = []
    for name in names:
        split = dataset.split(name)
        counts, coverage = split.counts, vocabulary.coverage(split.index.text)
        unknown = f"{coverage['unknown'] / max(1, coverage['words']):.2%}"
        rows.append([name, *map(str, (counts.images, counts.refs, counts.sentences)), unknown])
    print(f"data: {dataset.name} in {dataset.path}; vocabulary of {len(vocabulary.words)} words")
    print(format_table(("split", "images", "refs", "sentences", "unknown words"), rows), flush=True)


def _print_devices(state: TrainState, mesh: jax.sharding.Mesh) -> None:
    device = mesh.devices.flat[0]
    parameters = parameter_overview.count_parameters(state.params)
    print(f"devices: {mesh.size} × {device.device_kind} ({device.platform})")
    print(f"parameters: {parameters:,}", flush=True)


def _results_table(results: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            name,
            *(f"{100 * scores[k]:.2f}" for k in METRIC_NAMES),
            str(scores["sentences"]),
            str(scores["images"]),
        ]
        for name, scores in results.items()
    ]
    return format_table(("%", *METRIC_NAMES, "sentences", "images"), rows)
