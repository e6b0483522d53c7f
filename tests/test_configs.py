"""Every shipped config loads, is explained, and builds its network."""

import importlib
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from ml_collections import ConfigDict

from configs import default
from lts_jax import experiment
from lts_jax.data.tokenizer import Vocabulary
from lts_jax.optim import make_optimizer
from lts_jax.steps import init_state

CONFIGS = sorted(path.stem for path in Path(default.__file__).parent.glob("*.py"))


def load(name: str) -> ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config()


def fields(config: ConfigDict, prefix: str = "") -> set[str]:
    names = set()
    for key, value in config.items():
        name = prefix + key
        names |= fields(value, f"{name}.") if isinstance(value, ConfigDict) else {name}
    return names


@pytest.mark.parametrize("name", CONFIGS)
def test_config_builds_its_network(name):
    config = load(name)
    assert fields(config) == fields(default.get_config())
    model = experiment.make_model(config, Vocabulary(["a", "b"]))
    size, words = config.data.image_size, config.data.max_words
    state = jax.eval_shape(
        lambda: init_state(
            model, make_optimizer(optax.constant_schedule(1e-3)), config.seed, size, words
        )
    )
    outputs = jax.eval_shape(
        lambda variables: model.apply(
            variables,
            jnp.zeros((2, size, size, 3)),
            jnp.ones((2, words), jnp.int32),
            jnp.ones((2,), jnp.int32),
            train=False,
        ),
        {"params": state.params, "batch_stats": state.batch_stats},
    )
    assert outputs.mask.shape == (2, size // 4, size // 4)
    assert outputs.heatmap.shape == (2, 1, size // 8, size // 8)


def test_every_field_has_a_comment():
    source = Path(default.__file__).read_text()
    assignments = re.findall(r"^    (?:\w+)\.(\w+) = (?!.*ConfigDict)(.*)$", source, re.MULTILINE)
    assert len(assignments) == len(fields(default.get_config()))
    for name, rest in assignments:
        assert "#" in rest, name


def test_the_papers_settings():
    config = load("refcoco")
    assert (config.data.image_size, config.data.max_words) == (416, 15)
    assert (config.train.batch_size, config.train.epochs) == (18, 45)
    assert (config.train.learning_rate, tuple(config.train.drop_epochs)) == (1e-3, (30,))
    assert (config.train.location_weight, config.eval.threshold) == (0.1, 0.25)


def test_unknown_field_is_refused():
    config = load("shapes").lock()
    with pytest.raises(AttributeError, match="learning_rate"):
        config.train.learning_rat = 1
