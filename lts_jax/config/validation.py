"""Validates a config before anything is computed or written."""

import difflib
import reprlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from lts_jax.configs.default import BACKBONES, FIELDS
from lts_jax.configs.fields import SPLITS, Field, flatten, plain_config
from lts_jax.errors import ConfigError

_TYPES: dict[type, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("an integer", (int,)),
    float: ("a number", (int, float)),
    str: ("a string", (str,)),
    tuple: ("a list", (list,)),
}
"""Accepted JSON types of a field's value, by the type of its default."""
_OF_NETWORK = {
    "lts": (
        *("model.fuse", "model.coordinates", "model.locate", "model.rounds", "model.refine"),
        *("model.attention_layers", "model.attention_words", "train.location_loss"),
    ),
    "cmpc": ("model.level_features", "model.exchange_rounds"),
}
"""Fields that only one network has."""
_HUB = ("model.backbone_weights", "model.text_weights")  # may be on the Hugging Face Hub


def check_config(config: ConfigDict) -> None:
    """Raises ConfigError for the first invalid field or combination of fields."""
    values = flatten(plain_config(config))
    for name in values:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"{name}: unknown field{hint}; lts_jax/configs/default.py lists all fields"
            )
    for name, field in FIELDS.items():
        if name not in values:
            raise ConfigError(
                f"{name}: missing from the config; lts_jax/configs/default.py lists all fields"
            )
        if isinstance(values[name], str) and values[name] in field.words:
            continue
        _check_type(name, values[name], field)
        if not (name in _HUB and str(values[name]).startswith("hf://")):
            check_local(name, values[name])
        for check in field.checks:
            if not check.accepts(values[name]):
                raise ConfigError(f"{name}={values[name]!r} {check.message}")
    _check_datasets(values)
    _check_backbone(values)
    _check_text(values)
    _check_network(values)
    _check_parts(values)
    _check_frozen(values)
    _check_normalized(values)


def _check_type(name: str, value: Any, field: Field) -> None:
    """Raises ConfigError if a value from JSON or from a config file has the wrong type."""
    what, types = _TYPES[type(field.default)]
    if type(value) not in types:
        raise ConfigError(
            f"{name}={reprlib.repr(value)} must be {' or '.join([what, *field.words])}"
        )


def check_divides(field: str, size: int, parts: int, over: str) -> None:
    """Raises ConfigError with the nearest valid sizes if `size` is not a positive multiple."""
    if size <= 0 or size % parts:
        lower = size // parts * parts
        near = f"{lower} or {lower + parts}" if lower > 0 else str(parts)
        raise ConfigError(f"{field}={size} is not divisible by {over}: set {near}")


def check_local(name: str, value: Any) -> None:
    """Raises ConfigError if a path is in a bucket: Python would treat it as a local folder."""
    if isinstance(value, str) and "://" in value:
        raise ConfigError(
            f"{name}={value} is not a local path; docs/launch.md explains how to access a bucket"
        )


def _check_normalized(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if a BatchNorm would see a single value per channel in training.

    Its normalized value would be 0 and its running variance would decay to 0. Statistics are
    computed over a microbatch on all devices: image pooling has one value per sentence, and the
    features at stride 32 have `(image_size / 32)²` values per image.
    """
    batch, parts = values["train.batch_size"], values["train.accumulate"]
    per_image, side = values["train.sentences_per_image"], values["data.image_size"] // 32
    if batch % (parts * per_image):
        return  # see `lts_jax.distributed.mesh.check_batch_size`
    sentences, images = batch // parts, batch // parts // per_image
    if values["model.segment"] and sentences == 1:
        where = "its image pooling (segmenter)"
    elif images * side**2 == 1:
        where = "its features at stride 32"
    else:
        return
    total_images = batch // per_image
    divisors = [n for n in range(1, total_images // 2 + 1) if total_images % n == 0]
    fewer = f", or train.accumulate={divisors[-1]}" if parts > 1 and divisors else ""
    raise ConfigError(
        f"train.batch_size={batch}: a BatchNorm over {where} would see one value per channel, "
        f"because each microbatch (train.accumulate={parts}) has one "
        f"{'sentence' if per_image == 1 else 'image'}: set train.batch_size="
        f"{2 * parts * per_image}{fewer}"
    )


def _check_datasets(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if fields do not match the number of datasets."""
    names = [name.strip() for name in values["data.dataset"].split("+")]
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(
            f"data.dataset={values['data.dataset']} must be names of datasets joined by +, each "
            "once"
        )
    best = [name.strip() for name in values["eval.best_split"].split(",")]
    if not SPLITS.accepts(best):
        raise ConfigError(f"eval.best_split={values['eval.best_split']} {SPLITS.message}")
    if len(names) == 1:
        return
    for field, splits in (("eval.splits", values["eval.splits"]), ("eval.best_split", best)):
        for split in splits:
            sets = {part.strip().partition("/")[0] for part in split.split("+") if "/" in part}
            if len(sets) != 1 or split.count("/") <= split.count("+"):
                raise ConfigError(f"{field}: {split!r} must name one dataset, as in {names[0]}/val")
            if not sets <= set(names):
                raise ConfigError(
                    f"{field}: {split!r} names none of the datasets {', '.join(names)}"
                )
    if values["data.train_images"]:
        raise ConfigError(
            "data.train_images: image ids are ambiguous with several datasets; leave it empty"
        )


def _check_backbone(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if fields do not match the backbone."""
    name, stages = values["model.backbone"], values["model.backbone_stages"]
    needed = {"darknet53": "five", "efficientnet_lite0": "seven"}.get(name, "four")
    if len(stages) not in (0, ("four", "five", "six", "seven").index(needed) + 4):
        raise ConfigError(
            f"model.backbone_stages={stages} must be {needed} numbers of blocks with "
            f"model.backbone={name}, or () for the published sizes"
        )
    if values["model.drop_path"] and not name.startswith(("efficientnet", "convnext", "swin")):
        raise ConfigError(
            f"model.drop_path={values['model.drop_path']}: {name} has no stochastic depth; set it "
            "to 0"
        )
    if name != "darknet53" and values["model.backbone_conventions"] != "darknet":
        raise ConfigError(
            f"model.backbone_conventions={values['model.backbone_conventions']} applies to "
            f"Darknet53 only, not to model.backbone={name}: leave it unset"
        )


def _check_text(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if fields do not match the sentence encoder."""
    if values["data.vector_words"] and not values["model.word_vectors"]:
        raise ConfigError(
            f"data.vector_words={values['data.vector_words']} requires model.word_vectors, the "
            "file that the words are read from"
        )
    if values["model.text"] != "bert":
        for name, off in (("model.text_weights", ""), ("model.dropout", 0)):
            if values[name] != off:
                raise ConfigError(f"{name}={values[name]} requires model.text=bert")
        return
    if values["train.noise_words"]:
        raise ConfigError(
            f"train.noise_words={values['train.noise_words']} requires model.text=gru or lstm: it "
            "would insert words between word pieces"
        )
    if values["model.word_vectors"]:
        raise ConfigError(
            f"model.word_vectors={values['model.word_vectors']} requires model.text=gru or lstm: "
            "BERT has its own embeddings"
        )
    if values["model.bert_hidden"] % values["model.bert_heads"]:
        raise ConfigError(
            f"model.bert_hidden={values['model.bert_hidden']} is not divisible by "
            f"model.bert_heads={values['model.bert_heads']}: set them to the sizes of your BERT"
        )
    if not 2 < values["data.max_words"] <= values["model.bert_positions"]:
        raise ConfigError(
            f"data.max_words={values['data.max_words']}: with model.text=bert it counts word "
            f"pieces, including [CLS] and [SEP], and must be between 3 and model.bert_positions="
            f"{values['model.bert_positions']}"
        )


def _check_frozen(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if `train.cache_features` would cache features that training changes."""
    cache, freeze = values["train.cache_features"], values["train.freeze"]
    if cache != "none" and "backbone" not in freeze.split("+"):
        raise ConfigError(
            f"train.cache_features={cache} with train.freeze={freeze}: the features change with "
            "the backbone; set train.freeze=backbone, or train.cache_features=none"
        )
    if cache != "none" and values["model.refine"] != "none":
        raise ConfigError(
            f"train.cache_features={cache} with model.refine={values['model.refine']}: the "
            "refinement needs the image, which is not cached; change one of them"
        )
    for name in ("train.flip", "train.crop", "train.mask_patches"):
        if cache != "none" and values[name]:
            raise ConfigError(
                f"train.cache_features={cache} with {name}={values[name]}: features are cached "
                f"without augmentation; set {name}=0, or train.cache_features=none"
            )


def _check_network(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if a field that the network does not have is set."""
    network, backbone = values["model.network"], values["model.backbone"]
    for owner, names in _OF_NETWORK.items():
        for name in names:
            if owner != network and values[name] != FIELDS[name].default:
                raise ConfigError(
                    f"{name}={values[name]} applies to model.network={owner}, not to {network}: "
                    "leave it unset"
                )
    if network != "cmpc":
        return
    if not backbone.endswith("_dilated"):
        dilated = ", ".join(name for name in BACKBONES if name.endswith("_dilated"))
        raise ConfigError(
            f"model.backbone={backbone}: model.network=cmpc needs feature maps of one size: set "
            f"one of {dilated}"
        )
    weight = values["train.location_weight"]
    if weight and not values["model.segment"]:
        raise ConfigError(
            f"train.location_weight={weight}: without the segmenter, the response map of "
            "model.network=cmpc is the mask; set it to 0"
        )


def _check_parts(values: Mapping[str, Any]) -> None:
    """Raises ConfigError if the parts of the network are incompatible."""
    locate = values["model.locate"]
    divisor = 4 if locate == "transformer" else 2  # heads and position encodings; halves
    if values["model.fused_features"] % divisor:
        raise ConfigError(
            f"model.fused_features={values['model.fused_features']} must be a multiple of "
            f"{divisor} with model.locate={locate}"
        )
    if values["model.attention_layers"] and values["model.fused_features"] % 8:
        raise ConfigError(
            f"model.fused_features={values['model.fused_features']} must be a multiple of 8 with "
            f"model.attention_layers={values['model.attention_layers']}: half of the features are "
            "split over four heads"
        )
    if values["model.attention_words"] and not values["model.attention_layers"]:
        raise ConfigError(
            "model.attention_words=True requires attention layers: set model.attention_layers=1"
        )
    if values["model.refine"] != "none" and not values["model.segment"]:
        raise ConfigError(
            f"model.refine={values['model.refine']} with model.segment=False: the refinement needs "
            "the segmenter's mask; change one of them"
        )
    if locate != "none":
        return
    if not values["model.fuse"]:
        raise ConfigError(
            "model.fuse=False with model.locate=none: the network would never see the "
            "sentence; change one of them"
        )
    off = (("model.rounds", 1), ("train.location_weight", 0), ("train.location_loss", "bce"))
    for name, value in off:
        if values[name] != value:
            raise ConfigError(
                f"{name}={values[name]} requires a locator: set it to {value} if model.locate=none"
            )
