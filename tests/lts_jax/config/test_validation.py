import math
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from lts_jax.config.compatibility import check_same_model, check_same_run
from lts_jax.config.flags import saved_config
from lts_jax.config.validation import check_config
from lts_jax.configs import default, refcoco
from lts_jax.configs.fields import plain_config
from lts_jax.distributed.mesh import one_device
from lts_jax.errors import ConfigError
from lts_jax.experiment.experiment import Experiment
from lts_jax.models.batch_norm import BatchNormAct
from tests.lts_jax.helpers.tiny import TINY


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("data", "resize", "crop", r"data\.resize='crop' must be one of letterbox, squash"),
        ("data", "image_size", 0, r"data\.image_size=0 must be positive"),
        ("data", "image_size", 100, r"data\.image_size=100 must be a multiple of 32"),
        ("data", "max_words", 0, r"data\.max_words=0 must be positive"),
        ("data", "max_words", 2 * 10**9, r"data\.max_words=2000000000 must be at most 1,000"),
        ("data", "image_size", 2**20, r"data\.image_size=1048576 must be at most 8,192"),
        ("model", "rounds", 10**9, r"model\.rounds=1000000000 must be at most 100"),
        (
            "model",
            "backbone_stages",
            (1, 2, 10**9, 8, 4),
            r"stages=.* between 0 and 1,000",
        ),
        ("model", "segmenter_rates", tuple(range(1, 99)), r"rates=.* at most 20"),
        ("eval", "splits", ("../val",), r"eval\.splits=\['\.\./val'\] must be"),
        ("eval", "splits", (3,), r"eval\.splits=\[3\] must be"),
        ("model", "dtype", "float16", r"model\.dtype='float16' must be one of float32, bfloat16"),
        ("model", "prior", "mask", r"model\.prior"),
        ("model", "backbone_stages", (1, 1), r"model\.backbone_stages=\[1, 1\] must be five"),
        ("model", "segmenter_rates", (6, 6), r"model\.segmenter_rates"),
        ("model", "fused_features", 15, r"model\.fused_features=15 must be a multiple of 2"),
        ("train", "epoch_unit", "images", r"train\.epoch_unit='images' must be one of"),
        ("train", "epochs", -1.0, r"train\.epochs=-1\.0 must be positive"),
        ("train", "log_every", 0, r"train\.log_every=0 must be positive"),
        ("train", "drop_epochs", (2.0, 1.0), r"train\.drop_epochs"),
        ("train", "location_weight", -0.1, r"train\.location_weight"),
        ("train", "learning_rate", float("nan"), r"train\.learning_rate=nan"),
        ("train", "drop_epochs", ("a",), r"train\.drop_epochs"),
        ("train", "drop_epochs", (float("nan"),), r"train\.drop_epochs"),
        ("train", "epochs", float("inf"), r"train\.epochs=inf must be positive"),
        ("train", "location_weight", float("nan"), r"train\.location_weight=nan"),
        ("model", "backbone_stages", (1, 1.5, 1, 1, 1), r"model\.backbone_stages"),
        ("train", "freeze", "all", r"train\.freeze='all' must be one of none, backbone"),
        ("train.lr_multipliers", "text", -1.0, r"train\.lr_multipliers\.text=-1\.0 must not"),
        ("eval", "threshold", 25.0, r"eval\.threshold=25\.0 must be at least 0"),
        ("eval", "splits", (), r"eval\.splits=\[\] must be one or more"),
        ("eval", "splits", ("val", "val"), r"eval\.splits=\['val', 'val'\] .* without duplicates"),
        ("eval", "gallery", -1, r"eval\.gallery=-1"),
        ("eval", "splits", (3,), r"eval\.splits=\[3\] must be one or more split names"),
        ("data", "threads", 100_000, r"data\.threads=100000 must be at most 1,024"),
        ("data", "max_words", 2_000_000_000, r"data\.max_words=2000000000 must be at most 1,000"),
        ("train", "epochs", 1e308, r"train\.epochs=1e\+308 must be at most 100,000"),
        ("model", "backbone_stages", (1, 1, 1, 1, 10**9), r"between 0 and 1,000"),
        ("model", "segmenter_rates", (1, 10**9), r"between 1 and 1,000"),
        ("eval", "every_epochs", 0.0, r"eval\.every_epochs=0\.0 must be positive"),
    ],
)
def test_invalid_value_is_named(section, field, value, message):
    config = default.get_config()
    check_config(config)
    config.update_from_flattened_dict({f"{section}.{field}": value})
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_every_number_has_a_bound():
    """Includes fields that are added later: a typo must not exhaust the memory."""
    for name, field in default.FIELDS.items():
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert not all(check.accepts(10**10) for check in field.checks), name
            assert all(check.accepts(field.default) for check in field.checks), name


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("eval.threshold", "0.5", r"eval\.threshold='0\.5' must be a number"),
        ("eval.gallery", True, r"eval\.gallery=True must be an integer"),
        ("eval.gallery", 1.0, r"eval\.gallery=1\.0 must be an integer"),
        ("model.fuse", 1, r"model\.fuse=1 must be true or false"),
        ("data.dir", None, r"data\.dir=None must be a string"),
        ("eval.splits", "val", r"eval\.splits='val' must be a list"),
    ],
)
def test_a_value_of_another_type(field, value, message):
    """`--config.…` rejects them itself, but a run's file may contain any type."""
    saved = plain_config(default.get_config())
    *sections, name = field.split(".")
    saved[sections[0]][name] = value
    with pytest.raises(ConfigError, match=message):
        saved_config(saved)


def variant(name, **changes):
    config = refcoco.get_config(name)
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fusion", {"model.fuse": False}, "would never see the sentence"),
        ("fusion_seg", {"model.rounds": 2}, r"model\.rounds=2 requires a locator"),
        ("fusion_seg", {"train.location_weight": 0.1}, r"location_weight=0\.1 requires a locator"),
        ("transformer", {"model.fused_features": 18}, "must be a multiple of 4"),
        ("lts", {"model.rounds": 0}, r"model\.rounds=0 must be positive"),
        ("lts", {"model.locate": "filters"}, "one of filter, word_filter, transformer, none"),
        ("lts", {"model.exchange_rounds": 2}, r"exchange_rounds=2 applies to model\.network=cmpc"),
        (
            "cmpc",
            {"model.rounds": 2},
            r"model\.rounds=2 applies to model\.network=lts, not to cmpc",
        ),
        (
            "cmpc_seg",
            {"model.refine": "pointrend"},
            "refine=pointrend applies to model.network=lts",
        ),
        ("cmpc_seg", {"train.location_loss": "softmax"}, "location_loss=softmax applies to model"),
        ("cmpc", {"model.backbone": "resnet101"}, "of one size: set one of resnet50_dilated,"),
        ("cmpc", {"train.location_weight": 0.1}, r"location_weight=0\.1: without the segmenter"),
    ],
)
def test_incompatible_parts(name, changes, message):
    check_config(variant(name))
    with pytest.raises(ConfigError, match=message):
        check_config(variant(name, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.dataset": "a+b"}, r"eval\.splits: 'val' must name one dataset, as in a/val"),
        ({"eval.splits": ("a/val", "b/val")}, "eval.best_split: 'val' must name one dataset"),
        ({"eval.splits": ("a/val+b/val",)}, "'a/val\\+b/val' must name one dataset"),
        ({"eval.splits": ("a/val+testA",)}, "'a/val\\+testA' must name one dataset"),
        ({"eval.splits": ("c/val",)}, "eval.splits: 'c/val' names none of the datasets a, b"),
        ({"data.dataset": "a+ a"}, "data.dataset=a\\+ a must be names of datasets"),
        ({"data.dataset": "a+"}, "must be names of datasets joined by \\+, each once"),
        ({"eval.best_split": "a/val,,b/val"}, r"eval\.best_split=a/val,,b/val must be one or more"),
        ({"data.mix": (1, 0)}, r"data\.mix=\[1, 0\] must be positive"),
        ({"data.mix": (1, True)}, r"data\.mix=\[1, True\] must be positive"),
        ({"data.train_images": "ids.txt"}, "image ids are ambiguous with several datasets"),
    ],
)
def test_several_data_sets(changes, message):
    good = {"data.dataset": "a + b", "eval.splits": ("a/val+a/testA", "b/val")}
    good |= {"eval.best_split": "a/val, b/val", "data.mix": (1, 2.5)}
    check_config(variant("lts", **good))
    if "data.dataset" in changes or changes.get("eval.splits") == ("a/val", "b/val"):
        good = {"data.dataset": "a+b"}
    with pytest.raises(ConfigError, match=message):
        check_config(variant("lts", **good | changes))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_invalid_seed(seed):
    config = default.get_config()
    config.seed = seed
    with pytest.raises(ConfigError, match=f"seed={seed} must be between"):
        check_config(config)


@pytest.mark.parametrize("drops", [(), (1,), (0.5, 2)])
def test_legal_drops(drops):
    config = default.get_config()
    config.train.drop_epochs = drops
    check_config(config)


def test_a_resumed_run_may_change_some_fields_alone():
    config = default.get_config()
    saved = plain_config(config)
    config.train.epochs, config.data.threads, config.eval.splits = 50.0, 1, ("val",)
    check_same_run(saved, config, Path("run"))
    config.train.sentences_per_image = 2
    with pytest.raises(ConfigError, match=r"sentences_per_image: 1 in the checkpoint, 2 now"):
        check_same_run(saved, config, Path("run"))
    del saved["train"]["sentences_per_image"]
    with pytest.raises(ConfigError, match=r"sentences_per_image: absent in the checkpoint, 2 now"):
        check_same_run(saved, config, Path("run"))


def test_where_the_first_weights_came_from_is_no_part_of_the_network():
    config = default.get_config()
    saved = plain_config(config)
    check_same_model(saved, config, Path("run"))
    config.model.backbone_weights = "x"
    check_same_model(saved, config, Path("run"))
    with pytest.raises(ConfigError, match=r"model\.backbone_weights:  in the checkpoint, x now"):
        check_same_run(saved, config, Path("run"))
    config.model.rounds = 2
    with pytest.raises(ConfigError, match=r"model\.rounds: 1 in the checkpoint, 2 now"):
        check_same_model(saved, config, Path("run"))


def test_fields_that_are_not_known():
    config = default.get_config()
    config.train.epoch = 3
    with pytest.raises(
        ConfigError, match=r"train\.epoch: unknown field.*did you mean train\.epochs"
    ):
        check_config(config)
    del config.train.epoch, config.train.epochs
    with pytest.raises(ConfigError, match=r"train\.epochs: missing from the config"):
        check_config(config)


def smallest_norm(config):
    """Returns the minimum number of values per channel of a BatchNorm in a microbatch."""
    train, seen = config.train, []
    sentences = train.batch_size // train.accumulate
    side, words = config.data.image_size, config.data.max_words
    model = Experiment(config, one_device(), ["a"]).model

    def record(call, args, kwargs, context):
        if (
            isinstance(context.module, nn.BatchNorm | BatchNormAct)
            and context.method_name == "__call__"
        ):
            seen.append(math.prod(args[0].shape[:-1]))
        return call(*args, **kwargs)

    images = jnp.zeros((sentences // train.sentences_per_image, side, side, 3))
    tokens, lengths = jnp.zeros((sentences, words), int), jnp.ones(sentences, int)
    with nn.intercept_methods(record):
        jax.eval_shape(lambda: model.init(jax.random.key(0), images, tokens, lengths, train=True))
    return min(seen)


@pytest.mark.parametrize(
    ("name", "batch", "parts", "per_image", "size", "message"),
    [
        ("lts", 1, 1, 1, 64, r"image pooling .* microbatch .*=1\) has one sentence: set .*size=2$"),
        ("lts", 18, 18, 1, 64, r"set train\.batch_size=36, or train\.accumulate=9$"),
        ("lts", 18, 9, 1, 32, None),
        ("lts", 4, 2, 2, 64, None),
        ("lts", 4, 2, 2, 32, r"stride 32 .* has one image: set .*size=8, or .*accumulate=1$"),
        ("filter", 1, 1, 1, 32, r"stride 32 .* set train\.batch_size=2$"),
        ("fusion", 3, 3, 1, 64, None),
    ],
)
def test_batch_norm_over_one_value_is_rejected(name, batch, parts, per_image, size, message):
    config = variant(name)
    config.model.update(TINY)
    config.data.image_size = size
    config.train.batch_size, config.train.accumulate = batch, parts
    config.train.sentences_per_image = per_image
    assert (smallest_norm(config) == 1) == (message is not None)
    if message is None:
        check_config(config)
    else:
        with pytest.raises(ConfigError, match=message):
            check_config(config)
