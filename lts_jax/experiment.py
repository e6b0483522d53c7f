"""From a config to the objects of a run."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

import tfds_refcoco
from lts_jax import provenance, sharding
from lts_jax.checkpointing import Checkpoints
from lts_jax.checks import ABSENT, check_same_model, plain_config
from lts_jax.data.pipeline import Preprocessing
from lts_jax.data.tokenizer import Vocabulary
from lts_jax.evaluate import Evaluator
from lts_jax.models import LTS
from lts_jax.optim import make_optimizer
from lts_jax.steps import TrainState, init_state
from tfds_refcoco.imagelists import read_ids
from tfds_refcoco.reader import Dataset, Split

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def open_data(config: ConfigDict) -> Dataset:
    """Opens the data set, building it first if it can be had without the user.

    Raises:
      tfds_refcoco.DataError: it is neither built nor can be built; the message says how.
    """
    folder, name = Path(config.data.dir), config.data.dataset
    try:
        return tfds_refcoco.open_dataset(folder, name)
    except tfds_refcoco.DataError:
        if name != "shapes" and not config.data.raw:
            raise
    tfds_refcoco.build(name, folder, Path(config.data.raw) if config.data.raw else None)
    return tfds_refcoco.open_dataset(folder, name)


def train_split(config: ConfigDict, dataset: Dataset) -> Split:
    """Returns the split to train on, of the images of `data.train_images` where that is given.

    Raises:
      tfds_refcoco.DataError: there is no such split, or the file names no image of it.
    """
    split = dataset.split(config.data.train_split)
    if not config.data.train_images:
        return split
    path = Path(config.data.train_images)
    part = Split(split.path, split.names, frozenset(read_ids(path)))
    if not len(part.index):
        raise tfds_refcoco.DataError(
            f"{path}: no image of {config.data.train_split} of {dataset.name} is listed there."
        )
    return part


def make_model(config: ConfigDict, vocabulary: Vocabulary) -> LTS:
    """Builds the network that `config.model` describes."""
    fields = config.model.to_dict()
    for name in ("backbone_weights", "word_vectors"):  # where the first weights come from
        del fields[name]
    dtype = _DTYPES[fields.pop("dtype")]
    return LTS(vocab_size=len(vocabulary), dtype=dtype, remat=config.train.remat, **fields)


def make_train_optimizer(
    train: ConfigDict | dict[str, Any], schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Builds the optimizer that `config.train` describes."""
    frozen = ("backbone",) if train.get("freeze") == "backbone" else ()
    return make_optimizer(schedule, train.get("lr_multipliers"), frozen)


def make_preprocessing(config: ConfigDict, vocabulary: Vocabulary) -> Preprocessing:
    """Collects what `config.data` says of a single example."""
    return Preprocessing(
        vocabulary=vocabulary,
        image_size=config.data.image_size,
        max_words=config.data.max_words,
        resize=config.data.resize,
        hide_sentence=config.data.hide_sentence,
    )


def make_evaluator(
    config: ConfigDict, model: LTS, split: Split, vocabulary: Vocabulary, mesh: Mesh
) -> Evaluator:
    """Sets one split up for scoring as `config.eval` says."""
    return Evaluator.create(
        model,
        split,
        make_preprocessing(config, vocabulary),
        threshold=config.eval.threshold,
        batch_size=config.eval.batch_size,
        mesh=mesh,
        threads=config.data.threads,
    )


def fresh_state(
    config: ConfigDict, model: LTS, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Draws the first state from the config's seed, directly into its place."""
    args = (config.seed, config.data.image_size, config.data.max_words)
    init = jax.jit(lambda: init_state(model, optimizer, *args))  # traced once for both uses
    place = sharding.over_shards(jax.eval_shape(init), mesh)
    return jax.jit(init, out_shardings=place)()


def abstract_state(
    config: ConfigDict, model: LTS, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Gives shapes, dtypes and shardings of the state, without computing it."""
    args = (config.seed, config.data.image_size, config.data.max_words)
    shapes = jax.eval_shape(lambda: init_state(model, optimizer, *args))
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        shapes,
        sharding.over_shards(shapes, mesh),
    )


def places(abstract: TrainState) -> TrainState:
    """The shardings of a state, in its own form."""
    return jax.tree.map(lambda x: x.sharding, abstract)


def config_of(saved: dict[str, Any]) -> ConfigDict:
    """Makes a config of a checkpoint's: there, tuples are lists, and newer fields are missing."""

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: tuples(v) for k, v in value.items()}
        return tuple(value) if isinstance(value, list) else value

    filled = tuples(saved)
    for name, value in ABSENT.items():
        *parents, field = name.split(".")
        part = filled
        for parent in parents:
            part = part.setdefault(parent, {})
        part.setdefault(field, value)
    return ConfigDict(filled).lock()


class Restored(NamedTuple):
    """A trained network."""

    model: LTS
    vocabulary: Vocabulary
    state: TrainState
    given: ConfigDict  # that it is used with
    config: dict[str, Any]  # that it was trained with
    weights: dict[str, Any]  # where its first weights came from


def restore(
    config: ConfigDict | None, checkpoints: Checkpoints, step: int, workdir: Path, mesh: Mesh
) -> Restored:
    """Reads a checkpoint of a workdir for evaluation, with its own config where None is given.

    Raises:
      ConfigError: the config describes another network than the checkpoint's.
      UnreadableCheckpointError: the checkpoint is damaged.
    """
    saved = checkpoints.read_run(step)
    if config is None:
        config = config_of(saved["config"])
    check_same_model(saved["config"], config, workdir)
    vocabulary = Vocabulary(saved["vocabulary"])
    model = make_model(config, vocabulary)
    optimizer = make_optimizer(optax.constant_schedule(0.0))  # its state is not read
    state = checkpoints.restore_network(step, abstract_state(config, model, optimizer, mesh))
    return Restored(model, vocabulary, state, config, saved["config"], saved["weights"])


def describe_data(split: Split) -> dict[str, Any]:
    """Counts and a hash of a split's sentences and ids, to know it again."""
    index, digest = split.index, hashlib.sha256()
    for ids in (index.sent_id, index.ref_id, index.image_id, index.height, index.width):
        digest.update(ids.astype("<i8").tobytes())
    digest.update("\n".join(index.text).encode())
    counts = split.counts
    return {
        "images": counts.images,
        "refs": counts.refs,
        "sentences": counts.sentences,
        "sha256": digest.hexdigest(),
    }


def describe_run(
    config: ConfigDict,
    split: Split,
    vocabulary: Vocabulary,
    weights: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that a reader needs to repeat the run.

    Args:
      config: of the run.
      split: that it trains on, or that is evaluated.
      vocabulary: of the network.
      weights: where the network's first weights came from, see `lts_jax.first_weights`.
    """
    return {
        "config": plain_config(config),
        "data": describe_data(split),
        "vocabulary": {
            "words": len(vocabulary.words),
            "sha256": hashlib.sha256("\n".join(vocabulary.words).encode()).hexdigest(),
        },
        "weights": weights or {},
        **provenance.describe(),
    }
