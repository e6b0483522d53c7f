"""The training loop, and what comes before and after it."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from lts_jax import checks, experiment, first_weights, sharding
from lts_jax.checkpointing import Checkpoints, open_checkpoints
from lts_jax.data import pipeline
from lts_jax.data.tokenizer import Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.guards import LossGuard
from lts_jax.metrics import METRIC_NAMES
from lts_jax.optim import make_schedule
from lts_jax.progress import Progress, print_data, print_intervals, print_results
from lts_jax.results import read_json
from lts_jax.resuming import read_chosen, read_newest
from lts_jax.steps import TrainState, compile_train_step
from lts_jax.stopping import Pace, Stop, Stopped
from lts_jax.writers import MetricWriter, NoWriter, only_run_in, write_json

Results = dict[str, dict[str, Any]]


def train_and_evaluate(config: ConfigDict, workdir: Path, stop: Stop | None = None) -> Results:
    """Trains, going on from the workdir's latest checkpoint, and evaluates the best one.

    Args:
      config: of the run.
      workdir: of the run.
      stop: tells to stop; None never does.

    Returns:
      The metrics of each of `config.eval.splits`.

    Raises:
      ConfigError: the config contradicts itself, the devices, the data or the workdir's run.
      tfds_refcoco.DataError: the data is missing or bad.
      NonFiniteLossError: the training has diverged; the checkpoints before it stay.
      SaveError: a checkpoint could not be written; the ones before it stay.
      Stopped: `stop` told to; everything is saved.
    """
    train(config, workdir, stop)
    return evaluate(config, workdir)


def train(config: ConfigDict, workdir: Path, stop: Stop | None = None) -> None:
    """Trains up to `config.train.epochs`; see `train_and_evaluate`."""
    stop = stop or Stop()
    # 1. Data, and the vocabulary of its training split.
    checks.check_config(config)
    dataset = sharding.one_after_another(lambda: experiment.open_data(config))
    split = experiment.train_split(config, dataset)
    vocabulary = Vocabulary.build(split.index.text, config.data.min_count)
    evaluated = [config.eval.best_split, *config.eval.splits]
    splits = {name: dataset.split(name) for name in evaluated}
    name = config.data.train_split + (" (listed)" if config.data.train_images else "")
    print_data(dataset, {name: split} | splits, vocabulary)

    # 2. Devices, network, optimizer.
    mesh = sharding.make_mesh(shards=config.train.shard_params)
    accumulate = config.train.accumulate
    per_image = config.train.sentences_per_image
    sharding.check_batch_size(
        "train.batch_size", config.train.batch_size, mesh, accumulate, per_image
    )
    local_mesh = sharding.make_mesh(jax.local_devices())
    model = experiment.make_model(config, vocabulary)
    examples = pipeline.epoch_length(split, config.train.epoch_unit, per_image)
    per_epoch = examples / config.train.batch_size
    total_steps = max(1, math.ceil(config.train.epochs * per_epoch))
    eval_every = max(1, round(config.eval.every_epochs * per_epoch))
    schedule = make_schedule(
        config.train.learning_rate, config.train.drop_epochs, config.train.drop_factor, per_epoch
    )
    optimizer = experiment.make_train_optimizer(config.train, schedule)
    abstract = experiment.abstract_state(config, model, optimizer, mesh)
    train_step = compile_train_step(
        model,
        optimizer,
        config.train.location_weight,
        mesh,
        freeze_backbone=config.train.freeze == "backbone",
        accumulate=accumulate,
        place=experiment.places(abstract),
    )
    evaluator = experiment.make_evaluator(
        config, model, dataset.split(config.eval.best_split), vocabulary, local_mesh
    )
    run = experiment.describe_run(config, split, vocabulary)
    sharding.check_alike(checks.given(run))
    batches = iter(
        pipeline.train_batches(
            split,
            experiment.make_preprocessing(config, vocabulary),
            batch_size=config.train.batch_size,
            seed=config.seed,
            epoch_unit=config.train.epoch_unit,
            threads=config.data.threads,
            per_image=per_image,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )
    )
    print(f"devices: {run['devices']}")
    print(f"parameters: {parameter_overview.count_parameters(abstract.params):,}", flush=True)

    first, words = jax.process_index() == 0, list(vocabulary.words)

    def evaluated_at(step: int) -> bool:
        # A last stretch of less than half an interval is left to the evaluation after it.
        left = total_steps - step
        return left == 0 or (step % eval_every == 0 and left >= eval_every / 2)

    def sent_ids(step: int) -> list[int]:
        order = (config.seed, config.train.epoch_unit, config.train.batch_size)
        rows = pipeline.rows_of_batch(split, *order, step - 1, per_image)
        return split.index.sent_id[rows].tolist()

    with _only_run_in(workdir), Checkpoints(workdir, clean=True) as checkpoints:
        # 3. Where an earlier run stopped.
        def read(step: int) -> tuple[TrainState, dict[str, Any]]:
            saved = checkpoints.read_run(step)
            checks.check_same_run(saved["config"], config, workdir)
            checks.check_same_data(saved, run | {"vocabulary": words}, workdir)
            checkpoints.restore_iterator(step, batches)
            return checkpoints.restore_state(step, abstract), saved["weights"]

        resumed = read_newest(checkpoints, read)
        if resumed:
            start, (state, run["weights"]) = resumed
        else:
            start, state = 0, experiment.fresh_state(config, model, optimizer, mesh)
            state, run["weights"] = first_weights.fill(state, config, vocabulary, split.index.text)
            sharding.check_alike(run["weights"])
        if start > total_steps:
            raise ConfigError(
                f"{workdir} was trained for {start} steps, and train.epochs="
                f"{config.train.epochs} are {total_steps}. Take another --workdir."
            )
        if start == total_steps and checkpoints.scored(start):
            print(f"{workdir} is trained: step {start} of {total_steps}", flush=True)
            return
        if first:
            write_json(workdir / "run.json", run)
        if start:
            print(f"resumed from step {start} of {total_steps}", flush=True)

        # 4. The loop.
        progress = Progress(total_steps, config.train.batch_size)
        guard = LossGuard(sent_ids, lambda: checkpoints.latest_step)
        pace = Pace(stop, config.checkpoint.every_minutes)
        with MetricWriter(workdir, start) if first else NoWriter() as writer:

            def evaluate_at(step: int) -> None:
                stop.release(lambda: checkpoints.saving)
                with progress.paused():
                    network = sharding.local_copy(state.network(), mesh, local_mesh)
                    metrics = evaluator.scores(network)
                    _report(step, config.eval.best_split, metrics, writer)
                    checkpoints.score(step, metrics)

            if start and evaluated_at(start) and not checkpoints.scored(start):
                evaluate_at(start)
            for step in range(start + 1, total_steps + 1):
                batch = sharding.put_batch(next(batches), mesh)
                state, losses = train_step(state, batch)
                guard.add(step, losses)
                stop.hold()
                # Not the first step after a stop: the log is to be the same without it.
                logged = evaluated_at(step) or step == 1 or step % config.train.log_every == 0
                if logged or step == start + 1:
                    scalars = guard.check()
                    scalars |= {"learning_rate": float(schedule(step - 1))}
                    scalars |= progress.report(step, scalars["loss"], step / per_epoch)
                    if logged:
                        writer.write(step, {f"train/{k}": v for k, v in scalars.items()})
                turn = pace.after(step)
                if turn.save or turn.stop or evaluated_at(step):
                    guard.check()
                    checkpoints.save(step, state, batches, run, words)
                    pace.saved()
                if turn.stop:
                    raise Stopped(f"stopped at step {step} of {total_steps}, and saved")
                if evaluated_at(step):
                    evaluate_at(step)
    stop.release()


def evaluate(config: ConfigDict | None, workdir: Path, step: int | None = None) -> Results:
    """Evaluates a checkpoint of the workdir on `config.eval.splits`, and prints the table.

    Writes what `lts_jax.evaluate.Evaluator.report` does, and run.json, to `eval/<split>/` of the
    workdir, or of `step<N>/` in it where a step was asked for. Several processes share the work.

    Args:
      config: what to evaluate and how; None is the checkpoint's own.
      workdir: of the run.
      step: of the checkpoint; where None the best one that can be read.

    Raises:
      ConfigError: the workdir holds no such checkpoint, the config describes another network, or
        another evaluation writes there.
      tfds_refcoco.DataError: the data is missing or bad.
    """
    if config is not None:
        checks.check_config(config)
    mesh = sharding.make_mesh(jax.local_devices())
    with open_checkpoints(workdir) as checkpoints:
        chosen, trained = read_chosen(
            checkpoints, step, lambda s: experiment.restore(config, checkpoints, s, workdir, mesh)
        )
    config = trained.given
    dataset = sharding.one_after_another(lambda: experiment.open_data(config))
    splits = {name: dataset.split(name) for name in config.eval.splits}
    which = f"the best on {trained.config['eval']['best_split']}" if step is None else "as asked"
    first = jax.process_index() == 0
    if first:
        print(f"evaluating step {chosen}, {which}", flush=True)
    results, intervals = {}, {}
    for name, split in splits.items():
        out_dir = (workdir if step is None else workdir / f"step{step}") / "eval" / name
        evaluator = experiment.make_evaluator(
            config, trained.model, split, trained.vocabulary, mesh
        )
        run = {"step": chosen} | experiment.describe_run(
            config, split, trained.vocabulary, trained.weights
        )
        sharding.check_alike({"step": chosen} | checks.given(run))
        with _only_run_in(out_dir):
            results[name] = evaluator.report(trained.state, out_dir, config.eval.gallery)
            if first:
                write_json(out_dir / "run.json", run)
                print(f"wrote {out_dir}", flush=True)
                intervals[name] = read_json(out_dir / "analysis.json")["intervals"]
    if first:
        print_results(results)
        print_intervals(intervals)
    return results


@contextlib.contextmanager
def _only_run_in(folder: Path) -> Iterator[None]:
    """Holds a folder that all processes see against other runs."""
    with sharding.in_first_process(only_run_in(folder)):
        sharding.check_shared(folder)
        yield


def _report(step: int, split: str, metrics: dict[str, Any], writer: MetricWriter) -> None:
    known = {k: metrics[k] for k in METRIC_NAMES if metrics[k] is not None}
    line = "  ".join(f"{k} {known[k]:.4f}" for k in ("oiou", "miou", "pointing") if k in known)
    print(f"step {step}  {split}: {line}", flush=True)
    writer.write(step, {f"{split}/{k}": v for k, v in known.items()})
