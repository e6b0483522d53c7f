"""The interface of a network: nothing above the models knows which network it runs."""

import re

import jax
import numpy as np
import pytest

from lts_jax.configs.default import FIELDS
from lts_jax.models import NETWORKS, Network
from lts_jax.steps.optimizer import PARTS, parts_of

ROOMS = ("steps", "training", "evaluation", "inference", "export", "experiment", "state")
NAMES = "|".join([*NETWORKS, *(network.__name__ for network in NETWORKS.values())])
# As a name or a text of its own, and as a module: not `lts_jax`, nor the command `lts export`.
NAMED = re.compile(rf"(?<![\w`])({NAMES})(?![\w ])|models\.({NAMES})\b", re.MULTILINE)


def test_no_name_of_a_network_is_above_the_models(repo_root):
    found = [
        f"{path.relative_to(repo_root)}: {line}"
        for room in ROOMS
        for path in sorted((repo_root / "lts_jax" / room).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if NAMED.search(line)
    ]
    assert not found


@pytest.mark.parametrize(
    "line", ["from lts_jax.models import LTS", 'if network == "cmpc":', "import lts_jax.models.lts"]
)
def test_such_a_name_would_be_found(line):
    assert NAMED.search(line)


def test_the_networks_are_those_of_the_config():
    check = FIELDS["model.network"].checks[0]
    assert all(check.accepts(name) for name in NETWORKS)
    assert check.message == f"must be one of {', '.join(NETWORKS)}"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_all_that_is_asked_of_it(name):
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
