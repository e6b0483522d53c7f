"""From a config to the objects of a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

import tfds_refcoco
from lts_jax.data.pipeline import Preprocessing
from lts_jax.data.tokenizer import Vocabulary
from lts_jax.evaluate import Evaluator
from lts_jax.models import LTS
from tfds_refcoco.reader import Dataset

# A run that goes on may change these and nothing else: the others would make it another run.
FREE_FIELDS = (
    "data.dir",
    "data.raw",
    "data.threads",
    "train.epochs",
    "train.log_every",
    "eval.splits",
    "eval.batch_size",
    "eval.gallery",
)
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


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


def make_model(config: ConfigDict, vocabulary: Vocabulary) -> LTS:
    """Builds the network that `config.model` describes."""
    fields = config.model.to_dict()
    dtype = fields.pop("dtype")
    if dtype not in DTYPES:
        raise ValueError(f"model.dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    return LTS(vocab_size=len(vocabulary), dtype=DTYPES[dtype], **fields)


def make_preprocessing(config: ConfigDict, vocabulary: Vocabulary) -> Preprocessing:
    """Collects what `config.data` says of a single example."""
    if config.data.image_size % 32:
        raise ValueError(f"data.image_size={config.data.image_size} must be a multiple of 32")
    return Preprocessing(
        vocabulary=vocabulary,
        image_size=config.data.image_size,
        max_words=config.data.max_words,
        resize=config.data.resize,
        hide_sentence=config.data.hide_sentence,
    )


def make_evaluator(
    config: ConfigDict, model: LTS, dataset: Dataset, split: str, vocabulary: Vocabulary, mesh: Mesh
) -> Evaluator:
    """Sets one split up for scoring as `config.eval` says."""
    return Evaluator.create(
        model,
        dataset.split(split),
        make_preprocessing(config, vocabulary),
        threshold=config.eval.threshold,
        batch_size=config.eval.batch_size,
        mesh=mesh,
        threads=config.data.threads,
    )


def check_same_run(saved: Mapping[str, Any], config: ConfigDict, workdir: Path) -> None:
    """Raises ValueError naming the fields in which a workdir's run differs from `config`.

    Args:
      saved: the config that the workdir's checkpoint holds.
      config: the config now given; `FREE_FIELDS` of it may differ.
      workdir: named in the error.
    """
    _check_same(saved, config, workdir, lambda field: field not in FREE_FIELDS)


def check_same_model(saved: Mapping[str, Any], config: ConfigDict, workdir: Path) -> None:
    """As `check_same_run`, for the fields that shape the network."""
    _check_same(
        saved,
        config,
        workdir,
        lambda field: field.startswith("model.") and field != "model.dtype",
    )


def _check_same(
    saved: Mapping[str, Any], config: ConfigDict, workdir: Path, checked: Callable[[str], bool]
) -> None:
    old, new = _flatten(saved), _flatten(plain_config(config))
    differing = [
        f"  {name}: {old.get(name, 'absent')} there, {new.get(name, 'absent')} now"
        for name in sorted(old.keys() | new.keys())
        if checked(name) and old.get(name) != new.get(name)
    ]
    if differing:
        listed = "\n".join(differing)
        raise ValueError(
            f"{workdir} holds a run with another config:\n{listed}\n"
            "Give these fields their old values, or take another --workdir."
        )


def plain_config(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as JSON would give it back: tuples are lists."""
    return _plain(config.to_dict())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
