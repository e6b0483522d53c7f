"""The compiled programs of a run: a training step, an evaluation and a prediction."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from benchmarks.network import SyntheticExperiment, make_batch
from lts_jax.data.buckets import SIDE
from lts_jax.distributed.mesh import check_batch_size, make_mesh, over_batch, replicated
from lts_jax.steps import inference, scoring

PROGRAMS = ("train", "encode", "score", "predict_image", "predict_text")
"""A training step; evaluation of images and of sentences; prediction of an image and a sentence."""

WITHOUT_AUTOTUNING = {"xla_gpu_autotune_level": 0}
"""For GPUs: kernels cannot be timed without one."""


def lower(name: str, experiment: SyntheticExperiment, batch: int) -> Any:
    """Traces one of `PROGRAMS`.

    Args:
      name: name of the program.
      experiment: an experiment on the devices to compile for.
      batch: number of sentences on all devices, and of images in evaluation. A prediction has one
        of each.

    Raises:
      ConfigError: the batch is not divisible by the number of devices.
    """
    if name == "train":
        train = experiment.config.train
        per_image = train.sentences_per_image
        check_batch_size("--batch", batch, experiment.mesh, train.accumulate, per_image)
        step: Any = experiment.train_step
        return step.lower(experiment.abstract_state, make_batch(experiment, batch, per_image))
    if name in ("encode", "score"):
        check_batch_size("--batch", batch, experiment.mesh)
        return _evaluation(name, experiment, batch)
    mesh = make_mesh(list(experiment.mesh.devices.flat[:1]))
    single = SyntheticExperiment(experiment.config, mesh)
    return _evaluation("encode" if name == "predict_image" else "refer", single, 1)


def _evaluation(name: str, experiment: SyntheticExperiment, batch: int) -> Any:
    mesh, model, data = experiment.mesh, experiment.model, experiment.config.data
    split = over_batch(mesh)
    state = _with_sharding(experiment.abstract_network, replicated(mesh))
    image = jax.ShapeDtypeStruct(
        (batch, data.image_size, data.image_size, 3), jnp.uint8, sharding=split
    )
    encode = partial(inference.encode, model)
    if name == "encode":
        return _on_mesh(encode, mesh).lower(state, image)
    features = _with_sharding(jax.eval_shape(encode, state, image), split)
    examples = make_batch(experiment, batch)
    sentences = {k: examples[k] for k in ("tokens", "length")}
    sentences["image"] = examples["length"] * 0
    if name == "refer":
        return _on_mesh(partial(inference.refer, model), mesh).lower(state, features, sentences)
    placement = jax.ShapeDtypeStruct((batch, 6), jnp.int32, sharding=split)
    truth = jax.ShapeDtypeStruct((batch, SIDE, SIDE // 8), jnp.uint8, sharding=split)
    batches: Mapping[str, Any] = sentences | {"truth": truth}
    step: Any = scoring.compile_score_step(model, experiment.thresholds.values, mesh, pictures=True)
    return step.lower(state, features, placement, batches)


def _on_mesh(step: Callable[..., Any], mesh: Mesh) -> Any:
    return inference.on_each_device(step, mesh)


def _with_sharding(tree: Any, place: NamedSharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)


def compile_program(lowered: Any, platform: str, flags: Mapping[str, Any]) -> Any:
    """Compiles a program with XLA's `flags` in addition to those set by lts_jax."""
    options = {**(WITHOUT_AUTOTUNING if platform == "cuda" else {}), **flags}
    return lowered.compile(compiler_options=options)
