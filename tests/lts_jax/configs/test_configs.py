"""Every shipped config is valid and documented, and builds its network."""

import importlib

import jax
import jax.numpy as jnp
import pytest
from clu import parameter_overview
from ml_collections import ConfigDict

from lts_jax.config.flags import shipped_configs
from lts_jax.config.validation import check_config
from lts_jax.configs import default
from lts_jax.configs.beyond import BEYOND as BEYOND_FIELDS
from lts_jax.configs.default import FIELDS
from lts_jax.configs.fields import flatten, plain_config
from lts_jax.configs.variants import BEYOND, OURS, TABLE_3, VARIANTS
from lts_jax.distributed.mesh import make_mesh
from lts_jax.experiment.experiment import Experiment

CONFIGS = ("joint", "mini_refcoco", "photos", "refcoco", "refcocog", "refcocoplus", "shapes")
FULL_SIZE = ("joint", "refcoco", "refcocog", "refcocoplus")

# Parameters by part at full size with a vocabulary of 100 words, calculated by hand:
BACKBONE = 56_322_784  # Darknet53 41,609,928 - 1,025,000 (its classifier), neck 15,737,856
TEXT = 2_528_560  # embedding 100 · 300, two GRUs of 3 · (300 + 512 + 1) · 512 + 512
FUSION = 3_546_112  # text 1024 · 1025, 1×1 convolutions with BatchNorm of the image features
FUSION_WITHOUT_TEXT = FUSION - 1024 * 1025
FILTER = 1024 * 1024
MIX = 1025 * 1024 + 2 * 1024  # 1×1 with BatchNorm before a second or third round
TRANSFORMER = 10_503_169  # 8 projections and 2 MLP layers of 1024 · 1025, 3 norms, output map
SEGMENTER = 8_989_697  # ASPP on 1025 channels, 256 each
SEGMENTER_WITHOUT_PRIOR = 8_982_273  # 29 · 256 weights fewer
LTS = BACKBONE + TEXT + FUSION + FILTER + SEGMENTER
PARAMETERS = {
    "lts": LTS,
    "fusion": BACKBONE + TEXT + FUSION + 1025,
    "filter": BACKBONE + TEXT + FUSION_WITHOUT_TEXT + FILTER,
    "fusion_filter": BACKBONE + TEXT + FUSION + FILTER,
    "fusion_seg": BACKBONE + TEXT + FUSION + SEGMENTER_WITHOUT_PRIOR,
    "filter_seg": BACKBONE + TEXT + FUSION_WITHOUT_TEXT + FILTER + SEGMENTER,
    "no_loc_loss": LTS,
    "transformer": LTS - FILTER + TRANSFORMER,
    "filters2": LTS + FILTER + MIX,
    "filters3": LTS + 2 * (FILTER + MIX),
    "word_filter": LTS + 1,  # and one for each of max_words
    **{f"size{n}": LTS for n in (320, 352, 384, 416, 448, 480)},
    "star": LTS - FILTER + 2 * TRANSFORMER + MIX,
}
GOLDEN = {"lts": 72_435_729, "transformer": 81_890_322, "star": 93_445_139}


def load(name: str, variant: str = "lts") -> ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config(variant)


def fields(config: ConfigDict, prefix: str = "") -> set[str]:
    names = set()
    for key, value in config.items():
        name = prefix + key
        names |= fields(value, f"{name}.") if isinstance(value, ConfigDict) else {name}
    return names


def test_every_config_file_is_tested():
    assert set(shipped_configs()) == {*CONFIGS, "default"}


def test_parameters_are_counted_for_every_variant():
    assert PARAMETERS.keys() == VARIANTS.keys()
    assert {name: PARAMETERS[name] for name in GOLDEN} == GOLDEN


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param(name, variant, marks=[] if quick else [pytest.mark.slow])
        for name in ("mini_refcoco", "photos", "refcoco", "shapes")
        for variant in VARIANTS
        for quick in [variant == "lts" or (name == "refcoco" and variant in GOLDEN)]
    ],
)
def test_config_builds_its_network(name, variant):
    config = load(name, variant)
    assert fields(config) == fields(default.get_config())
    check_config(config)
    model = Experiment(config, make_mesh(), [f"w{i}" for i in range(98)]).model
    size, words = config.data.image_size, config.data.max_words
    outputs, variables = jax.eval_shape(
        lambda: model.init_with_output(
            jax.random.key(0),
            jnp.zeros((2, size, size, 3)),
            jnp.ones((2, words), jnp.int32),
            jnp.ones((2,), jnp.int32),
            train=False,
        )
    )
    stride = 4 if config.model.segment else 8
    assert outputs.mask.shape == (2, size // stride, size // stride)
    if config.model.locate == "none":
        assert outputs.heatmap is None
    else:
        assert outputs.heatmap.shape == (2, config.model.rounds, size // 8, size // 8)
    if name == "refcoco":
        of_words = words if variant == "word_filter" else 0
        counted = parameter_overview.count_parameters(variables["params"])
        assert counted == PARAMETERS[variant] + of_words


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_configs_share_one_network(name, variant):
    config, refcoco = load(name, variant), load("refcoco", variant)
    check_config(config)
    assert fields(config) == fields(refcoco)
    assert config.model == refcoco.model
    assert config.data.image_size == refcoco.data.image_size


@pytest.mark.parametrize("variant", OURS)
def test_our_variants_build_their_networks(variant):
    config = load("refcoco", variant)
    assert fields(config) == fields(default.get_config())
    check_config(config)
    check_config(load("shapes", variant))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(str, range(94))]
    experiment = Experiment(config, make_mesh(), words)
    counted = parameter_overview.count_parameters(experiment.abstract_network.params)
    if variant == "imagenet":
        neck = 15_737_856
        assert counted == LTS - neck
    else:
        assert counted > 170_000_000  # backbone 87 million, BERT 86 million without embeddings


@pytest.mark.parametrize("variant", BEYOND)
def test_variants_beyond_the_paper_change_only_their_fields(variant):
    config = load("refcoco", variant)
    check_config(config)
    plain = flatten(plain_config(load("refcoco")))
    fields_now = flatten(plain_config(config)).items()
    changed = {name: value for name, value in fields_now if value != plain[name]}
    assert changed == BEYOND[variant]
    experiment = Experiment(config, make_mesh(), [f"w{i}" for i in range(98)])
    counted = parameter_overview.count_parameters(experiment.abstract_network.params)
    assert (counted > LTS) == any(name.startswith("model.") for name in changed)


@pytest.mark.parametrize("variant", TABLE_3)
def test_table_3_variants_match_the_authors_settings(variant):
    for name in CONFIGS:
        config = load(name, variant)
        assert fields(config) == fields(default.get_config())
        check_config(config)
    config = load("refcoco", variant)
    assert (config.data.image_size, config.data.max_words) == (320, 20)
    assert (config.train.learning_rate, config.train.decay_power) == (2.5e-4, 0.9)
    steps = 120_624 * config.train.epochs  # the authors' batches have one sentence
    assert steps == pytest.approx(700_000, rel=1e-3)
    experiment = Experiment(config, make_mesh(), [f"w{i}" for i in range(98)])
    counted = parameter_overview.count_parameters(experiment.abstract_network.params)
    segmenter = 5_099_521  # see tests/lts_jax/models/cmpc/test_network.py
    assert counted == 122_462_668 + (segmenter if variant == "cmpc_seg" else 0)


def test_the_backbones_are_those_of_the_registry():
    from lts_jax.models.backbones import BACKBONES

    assert tuple(BACKBONES) == default.BACKBONES


def test_the_error_for_an_unknown_variant_lists_all_variants():
    with pytest.raises(ValueError, match=r"unknown variant 'filter2'; choose one of lts, .*star"):
        load("refcoco", "filter2")


@pytest.mark.parametrize("name", CONFIGS)
def test_the_full_model_is_the_default(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    assert config.to_dict() == load(name, "lts").to_dict()


def test_every_field_is_described():
    assert set(FIELDS) == fields(default.get_config())
    for name, field in FIELDS.items():
        assert len(field.help) > 2, name
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert field.checks, f"{name}: a number without a range"


def test_the_papers_settings():
    config = load("refcoco")
    assert (config.data.image_size, config.data.max_words) == (416, 15)
    assert (config.train.batch_size, config.train.epochs) == (18, 45)
    assert (config.train.learning_rate, tuple(config.train.drop_epochs)) == (1e-3, (30,))
    assert (config.train.location_weight, config.eval.threshold) == (0.1, 0.25)
    values = flatten(plain_config(config))
    assert {values[name] for name in BEYOND_FIELDS} == {0, "none", "bce", 4096}


def test_unknown_field_is_refused():
    config = load("shapes").lock()
    with pytest.raises(AttributeError, match="learning_rate"):
        config.train.learning_rat = 1
