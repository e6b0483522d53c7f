"""The training loop, and what comes before and after it."""

import contextlib
import math
from pathlib import Path
from typing import Any

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from lts_jax import checks, experiment, first_weights, sharding
from lts_jax.checkpointing import Checkpoints, open_checkpoints
from lts_jax.data import pipeline
from lts_jax.data.tokenizer import Vocabulary
from lts_jax.errors import ConfigError, NonFiniteLossError
from lts_jax.metrics import METRIC_NAMES
from lts_jax.optim import make_schedule
from lts_jax.progress import Progress, print_data, print_intervals, print_results
from lts_jax.results import read_json
from lts_jax.steps import compile_train_step
from lts_jax.writers import MetricWriter, only_run_in, write_json

Results = dict[str, dict[str, Any]]


def train_and_evaluate(config: ConfigDict, workdir: Path) -> Results:
    """Trains, going on from the workdir's latest checkpoint, and evaluates the best one.

    Returns:
      The metrics of each of `config.eval.splits`.

    Raises:
      ConfigError: the config contradicts itself, the devices, the data or the workdir's run.
      tfds_refcoco.DataError: the data is missing or bad.
      NonFiniteLossError: the training has diverged; the checkpoints before it stay.
    """
    train(config, workdir)
    return evaluate(config, workdir)


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains up to `config.train.epochs`; see `train_and_evaluate`."""
    # 1. Data, and the vocabulary of its training split.
    checks.check_config(config)
    dataset = experiment.open_data(config)
    split = experiment.train_split(config, dataset)
    vocabulary = Vocabulary.build(split.index.text, config.data.min_count)
    evaluated = [config.eval.best_split, *config.eval.splits]
    splits = {name: dataset.split(name) for name in evaluated}
    name = config.data.train_split + (" (listed)" if config.data.train_images else "")
    print_data(dataset, {name: split} | splits, vocabulary)

    # 2. Devices, network, optimizer.
    mesh = sharding.make_mesh()
    sharding.check_batch_size("train.batch_size", config.train.batch_size, mesh)
    model = experiment.make_model(config, vocabulary)
    per_epoch = pipeline.epoch_length(split, config.train.epoch_unit) / config.train.batch_size
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
    )
    evaluator = experiment.make_evaluator(
        config, model, dataset.split(config.eval.best_split), vocabulary, mesh
    )
    batches = iter(
        pipeline.train_batches(
            split,
            experiment.make_preprocessing(config, vocabulary),
            batch_size=config.train.batch_size,
            seed=config.seed,
            epoch_unit=config.train.epoch_unit,
            threads=config.data.threads,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )
    )
    run = experiment.describe_run(config, split, vocabulary)
    print(f"devices: {run['devices']}")
    print(f"parameters: {parameter_overview.count_parameters(abstract.params):,}", flush=True)

    with only_run_in(workdir), Checkpoints(workdir) as checkpoints:
        # 3. Where an earlier run stopped.
        start = checkpoints.latest_step or 0
        if start:
            saved = checkpoints.read_run(start)
            checks.check_same_run(saved["config"], config, workdir)
            if saved["data"] != run["data"] or saved["vocabulary"] != list(vocabulary.words):
                raise ConfigError(
                    f"{workdir} was trained on other data: {saved['data']} there, {run['data']} "
                    f"now in {dataset.path}. Take another --workdir."
                )
            run["weights"] = saved["weights"]
            state = checkpoints.restore_state(start, abstract)
            checkpoints.restore_iterator(start, batches)
        else:
            state = experiment.fresh_state(config, model, optimizer, mesh)
            state, run["weights"] = first_weights.fill(state, config, vocabulary, split.index.text)
        if start > total_steps:
            raise ConfigError(
                f"{workdir} was trained for {start} steps, and train.epochs="
                f"{config.train.epochs} are {total_steps}. Take another --workdir."
            )
        if start == total_steps:
            print(f"{workdir} is trained: step {start} of {total_steps}", flush=True)
            return
        write_json(workdir / "run.json", run)
        if start:
            print(f"resumed from step {start} of {total_steps}", flush=True)

        # 4. The loop.
        progress = Progress(total_steps, config.train.batch_size)
        with MetricWriter(workdir, start) as writer:
            for step in range(start + 1, total_steps + 1):
                batch = sharding.put_batch(next(batches), mesh)
                state, losses = train_step(state, batch)
                last = step == total_steps
                # A last stretch of less than half an interval is left to the evaluation after it.
                save = last or (step % eval_every == 0 and total_steps - step >= eval_every / 2)
                if save or step == start + 1 or step % config.train.log_every == 0:
                    scalars = _finite(losses, step, checkpoints.latest_step)
                    scalars |= {"learning_rate": float(schedule(step - 1))}
                    scalars |= progress.report(step, scalars["loss"], step / per_epoch)
                    writer.write(step, {f"train/{k}": v for k, v in scalars.items()})
                if save:
                    with progress.paused():
                        metrics = evaluator.scores(state)
                        _report(step, config.eval.best_split, metrics, writer)
                        checkpoints.save(step, state, batches, run, list(vocabulary.words), metrics)


def evaluate(config: ConfigDict | None, workdir: Path, step: int | None = None) -> Results:
    """Evaluates a checkpoint of the workdir on `config.eval.splits`, and prints the table.

    Writes what `lts_jax.evaluate.Evaluator.report` does, and run.json, to `eval/<split>/` of the
    workdir, or of `step<N>/` in it where a step was asked for. Several processes share the work.

    Args:
      config: what to evaluate and how; None is the checkpoint's own.
      workdir: of the run.
      step: of the checkpoint; the best one where None.

    Raises:
      ConfigError: the workdir holds no such checkpoint, the config describes another network, or
        another evaluation writes there.
      tfds_refcoco.DataError: the data is missing or bad.
    """
    if config is not None:
        checks.check_config(config)
    mesh = sharding.make_mesh(jax.local_devices())
    with open_checkpoints(workdir) as checkpoints:
        chosen = checkpoints.choose(step)
        if config is None:
            config = experiment.config_of(checkpoints.read_run(chosen)["config"])
        trained = experiment.restore(config, checkpoints, chosen, workdir, mesh)
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
        with only_run_in(out_dir) if first else contextlib.nullcontext():
            results[name] = evaluator.report(trained.state, out_dir, config.eval.gallery)
            if first:
                run = {"step": chosen} | experiment.describe_run(
                    config, split, trained.vocabulary, trained.weights
                )
                write_json(out_dir / "run.json", run)
                print(f"wrote {out_dir}", flush=True)
                intervals[name] = read_json(out_dir / "analysis.json")["intervals"]
    if first:
        print_results(results)
        print_intervals(intervals)
    return results


def _finite(losses: dict[str, jax.Array], step: int, last_good: int | None) -> dict[str, float]:
    """Fetches the losses; raises NonFiniteLossError if one, or the gradient, is not finite."""
    scalars = {name: float(value) for name, value in losses.items()}
    for name, value in scalars.items():
        if not math.isfinite(value):
            kept = f"the last good checkpoint is step {last_good}" if last_good else "nothing saved"
            raise NonFiniteLossError(
                f"{name} is {value} at step {step}; {kept}. Start again with a lower "
                "train.learning_rate and another --workdir."
            )
    return scalars


def _report(step: int, split: str, metrics: dict[str, Any], writer: MetricWriter) -> None:
    known = {k: metrics[k] for k in METRIC_NAMES if metrics[k] is not None}
    line = "  ".join(f"{k} {known[k]:.4f}" for k in ("oiou", "miou", "pointing") if k in known)
    print(f"step {step}  {split}: {line}", flush=True)
    writer.write(step, {f"{split}/{k}": v for k, v in known.items()})
