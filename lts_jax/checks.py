"""Says what is wrong with a config before anything is computed or written."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lts_jax.errors import ConfigError

# Of the network; each may have a learning rate of its own. Here, as checking a config needs no JAX.
PARTS = ("backbone", "words", "text", "fusion", "locator", "segmenter")
_OF_A_MACHINE = ("data.dir", "data.raw", "data.threads")
# A run that goes on may change these and nothing else: the others would make it another run.
FREE_FIELDS = (
    *_OF_A_MACHINE,
    "train.epochs",
    "train.log_every",
    "checkpoint.every_minutes",
    "train.remat",
    "train.shard_params",
    "eval.splits",
    "eval.batch_size",
    "eval.gallery",
)
# What runs from before these fields had.
ABSENT = {
    "data.train_images": "",
    "model.backbone_weights": "",
    "model.word_vectors": "",
    "train.start_from": "",
    "train.freeze": "none",
    "train.accumulate": 1,
    "train.sentences_per_image": 1,
    "train.remat": False,
    **{f"train.lr_multipliers.{part}": 1.0 for part in PARTS},
}
# Where the first weights came from and how they are computed with makes it no other network.
_NOT_THE_MODEL = ("model.dtype", "model.backbone_weights", "model.word_vectors")
# What a network has learned to expect.
MODEL_FIELDS = ("data.image_size", "data.max_words", "data.resize", "data.hide_sentence")

_CHOICES = {
    "data.resize": ("letterbox", "squash"),
    "model.locate": ("filter", "word_filter", "transformer", "none"),
    "model.prior": ("probability", "logits"),
    "model.dtype": ("float32", "bfloat16"),
    "train.epoch_unit": ("sentences", "refs"),
    "train.freeze": ("none", "backbone"),
}
_POSITIVE = (
    "data.image_size",
    "data.max_words",
    "data.min_count",
    "data.threads",
    "model.embed_dim",
    "model.gru_features",
    "model.backbone_width",
    "model.fused_features",
    "model.rounds",
    "model.segmenter_features",
    "train.batch_size",
    "train.sentences_per_image",
    "train.accumulate",
    "train.shard_params",
    "train.epochs",
    "train.learning_rate",
    "train.drop_factor",
    "train.log_every",
    "eval.every_epochs",
    "eval.batch_size",
)


def check_config(config: ConfigDict) -> None:
    """Raises ConfigError naming the first field whose value makes no sense by itself."""
    fields = _flatten(plain_config(config))
    for name, choices in _CHOICES.items():
        if fields[name] not in choices:
            raise ConfigError(f"{name}={fields[name]!r} is none of {', '.join(choices)}")
    for name, value in fields.items():
        check_local(name, value)
    for name in _POSITIVE:
        if not 0 < fields[name] < math.inf:
            raise ConfigError(f"{name}={fields[name]} must be positive")
    multipliers = [f"train.lr_multipliers.{part}" for part in PARTS]
    for name in ("train.location_weight", "checkpoint.every_minutes", "eval.gallery", *multipliers):
        if not 0 <= fields[name] < math.inf:
            raise ConfigError(f"{name}={fields[name]} must not be negative")
    if not 0 <= fields["seed"] < 2**32:
        raise ConfigError(f"seed={fields['seed']} must lie between 0 and 2**32 - 1")
    if fields["data.image_size"] % 32:
        raise ConfigError(f"data.image_size={fields['data.image_size']} must be a multiple of 32")
    transformer = fields["model.locate"] == "transformer"
    divisor = 4 if transformer else 2  # of halves; of heads and position encodings
    if fields["model.fused_features"] % divisor:
        raise ConfigError(
            f"model.fused_features={fields['model.fused_features']} must be a multiple of "
            f"{divisor} with model.locate={fields['model.locate']}"
        )
    _check_parts(fields)
    stages = fields["model.backbone_stages"]
    if len(stages) != 5 or not all(isinstance(n, int) and n >= 0 for n in stages):
        raise ConfigError(f"model.backbone_stages={stages} must be five numbers of blocks")
    rates = fields["model.segmenter_rates"]
    if len(set(rates)) != len(rates) or not all(isinstance(n, int) and n > 0 for n in rates):
        raise ConfigError(
            f"model.segmenter_rates={rates} must be positive whole numbers, each once"
        )
    drops = fields["train.drop_epochs"]
    numbers = all(isinstance(x, int | float) and 0 < x < math.inf for x in drops)
    if not numbers or sorted(set(drops)) != drops:
        raise ConfigError(f"train.drop_epochs={drops} must be positive numbers that increase")
    splits = fields["eval.splits"]
    if not splits or len(set(splits)) != len(splits):
        raise ConfigError(f"eval.splits={splits} must be one or more splits, each once")
    if not 0 <= fields["eval.threshold"] < 1:
        raise ConfigError(f"eval.threshold={fields['eval.threshold']} must be a probability")


def check_divides(field: str, size: int, parts: int, over: str) -> None:
    """Raises ConfigError naming the nearest sizes where `size` is not a positive multiple."""
    if size <= 0 or size % parts:
        lower = size // parts * parts
        near = f"{lower} or {lower + parts}" if lower > 0 else str(parts)
        raise ConfigError(f"{field}={size} does not divide over {over}: take {near}")


def check_local(name: str, value: Any) -> None:
    """Raises ConfigError where a path is in a bucket: Python would make a local folder of it."""
    if isinstance(value, str) and "://" in value:
        raise ConfigError(
            f"{name}={value} is no path of this machine; docs/launch.md says how to reach a bucket"
        )


def _check_parts(fields: Mapping[str, Any]) -> None:
    """Raises ConfigError where the parts of the network do not go together."""
    if fields["model.locate"] == "none":
        if not fields["model.fuse"]:
            raise ConfigError(
                "model.fuse=False with model.locate=none: the network would never see the "
                "sentence; change one of them"
            )
        for name, value in (("model.rounds", 1), ("train.location_weight", 0)):
            if fields[name] != value:
                raise ConfigError(
                    f"{name}={fields[name]} needs a locator: set it to {value} where "
                    "model.locate=none"
                )


def check_same_run(saved: Mapping[str, Any], config: ConfigDict, workdir: Path) -> None:
    """Raises ConfigError naming the fields in which a workdir's run differs from `config`.

    Args:
      saved: the config that the workdir's checkpoint holds.
      config: the config now given; `FREE_FIELDS` of it may differ.
      workdir: named in the error.
    """
    _check_same(saved, config, workdir, lambda field: field not in FREE_FIELDS)


def check_same_data(saved: Mapping[str, Any], run: Mapping[str, Any], workdir: Path) -> None:
    """Raises ConfigError naming what differs in a run's data or vocabulary.

    Args:
      saved: what the workdir's checkpoint holds: `data`, and `vocabulary`, the words in order.
      run: the same of the data now given.
      workdir: named in the error.
    """
    differing = _differing(saved["data"], run["data"])
    old, new = saved["vocabulary"], run["vocabulary"]
    if old != new:
        for where, words in (("there", set(old) - set(new)), ("now", set(new) - set(old))):
            some = ", ".join(sorted(words)[:10]) + (", …" if len(words) > 10 else "")
            differing.append(f"  words only {where}: {len(words)} {some}".rstrip())
    if differing:
        listed = "\n".join(differing)
        raise ConfigError(
            f"{workdir} was trained on other data:\n{listed}\n"
            "Give the old data back (data.dir), or take another --workdir."
        )


def given(run: Mapping[str, Any]) -> dict[str, Any]:
    """What all processes of a run are to be given alike, by name.

    Args:
      run: `config`, `data` and `vocabulary` of a process, see `lts_jax.experiment.describe_run`.
    """
    flat = _flatten({key: run[key] for key in ("config", "data", "vocabulary")})
    own = {f"config.{name}" for name in _OF_A_MACHINE}
    return {name: value for name, value in flat.items() if name not in own}


def check_same_model(saved: Mapping[str, Any], config: ConfigDict, workdir: Path) -> None:
    """As `check_same_run`, for the fields that shape the network and its inputs."""
    shapes = ("model.", *MODEL_FIELDS)
    _check_same(saved, config, workdir, lambda f: f.startswith(shapes) and f not in _NOT_THE_MODEL)


def plain_config(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as JSON would give it back: tuples are lists."""
    return json.loads(json.dumps(config.to_dict()))


def _check_same(
    saved: Mapping[str, Any], config: ConfigDict, workdir: Path, checked: Callable[[str], bool]
) -> None:
    old, new = ABSENT | _flatten(saved), _flatten(plain_config(config))
    differing = _differing(old, new, checked)
    if differing:
        listed = "\n".join(differing)
        raise ConfigError(
            f"{workdir} holds a run with another config:\n{listed}\n"
            "Give these fields their old values, or take another --workdir."
        )


def _differing(
    old: Mapping[str, Any], new: Mapping[str, Any], checked: Callable[[str], bool] = lambda _: True
) -> list[str]:
    """Lines that tell the values of what differs, by name."""
    return [
        f"  {name}: {old.get(name, 'absent')} there, {new.get(name, 'absent')} now"
        for name in sorted(old.keys() | new.keys())
        if checked(name) and old.get(name) != new.get(name)
    ]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
