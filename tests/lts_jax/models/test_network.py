"""The network interface: code outside of the models does not know which network it runs."""

import re

import jax
import numpy as np
import pytest

from lts_jax.configs.default import FIELDS
from lts_jax.models import NETWORKS, Network
from lts_jax.steps.optimizer import PARTS, parts_of

ROOMS = ("steps", "training", "evaluation", "inference", "export", "experiment", "state")
NAMES = "|".join([*NETWORKS, *(network.__name__ for network in NETWORKS.values())])
# Matches a network's name as a string or a module, but not `lts_jax` or the command `lts export`.
NAMED = re.compile(rf"(?<![\w`])({NAMES})(?![\w ])|models\.({NAMES})\b", re.MULTILINE)


def test_no_network_is_named_outside_of_the_models(repo_root):
    matches = [
        f"{path.relative_to(repo_root)}: {line}"
        for room in ROOMS
        for path in sorted((repo_root / "lts_jax" / room).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if NAMED.search(line)
    ]
    assert not matches


@pytest.mark.parametrize(
    "line", ["from lts_jax.models import LTS", 'if network == "cmpc":', "import lts_jax.models.lts"]
)
def test_the_pattern_matches_a_network_name(line):
    assert NAMED.search(line)


def test_the_networks_are_those_of_the_config():
    check = FIELDS["model.network"].checks[0]
    assert all(check.accepts(name) for name in NETWORKS)
    assert check.message == f"must be one of {', '.join(NETWORKS)}"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_implements_the_interface(name):
    network = NETWORKS[name]
    for method in ("setup", "prepare", "refer", "loss"):
        assert getattr(network, method) is not getattr(Network, method)
    assert network.title


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_belongs_to_a_part(name):
    model = NETWORKS[name](vocab_size=9, segment=True)
    shapes = jax.eval_shape(
        lambda: model.init(
            jax.random.key(0),
            np.zeros((1, 32, 32, 3), np.float32),
            np.ones((1, 4), np.int32),
            np.ones(1, np.int32),
            train=False,
        )
    )["params"]
    assert set(jax.tree.leaves(parts_of(shapes))) == set(PARTS)
