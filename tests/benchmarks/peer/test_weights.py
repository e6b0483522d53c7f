"""The conversion of weights is exact in both directions and complete."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from lts_jax.models import LTS

torch = pytest.importorskip("torch")

from benchmarks.peer.lts import TorchLTS
from benchmarks.peer.weights import table, to_flax, to_torch
from tests.benchmarks.peer.variants import all_variants
from tests.lts_jax.helpers.twins import ALL, flat, make_torch, make_variables


@all_variants
def test_weights_round_trip(name: str) -> None:
    variables, model = make_variables(name), make_torch(name)
    back, start = flat(to_flax(model.state_dict(), model)), flat(variables)
    assert back.keys() == start.keys()
    assert all(np.array_equal(back[k], start[k]) for k in start)
    again = to_torch(to_flax(model.state_dict(), model), model)
    assert all(torch.equal(again[k], x) for k, x in model.state_dict().items())


def test_every_tensor_is_accounted_for() -> None:
    model, variables = make_torch("lts"), make_variables("lts")
    arrays, state = flatten_dict(variables), model.state_dict()
    key = next(iter(arrays))
    less = unflatten_dict({k: x for k, x in arrays.items() if k != key})
    with pytest.raises(ValueError, match=f"missing: ..{'/'.join(key)}"):
        to_torch(less, model)
    with pytest.raises(ValueError, match=r"unexpected: ..params/one_more"):
        to_torch(unflatten_dict({**arrays, ("params", "one_more"): np.zeros(1)}), model)
    with pytest.raises(ValueError, match="has shape"):
        to_torch(unflatten_dict({**arrays, key: arrays[key][..., None]}), model)
    with pytest.raises(ValueError, match=r"missing: ..text.embed.weight"):
        to_flax({k: x for k, x in state.items() if k != "text.embed.weight"}, model)
    with pytest.raises(ValueError, match=r"unexpected: ..one_more"):
        to_flax({**state, "one_more": torch.zeros(1)}, model)
    with pytest.raises(ValueError, match="has shape"):
        to_flax({**state, "text.embed.weight": torch.zeros(1)}, model)


@cache
def full_size(name: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Returns Flax's shapes, the table's shapes, and the number of PyTorch parameters."""
    model = LTS(vocab_size=10000, **ALL[name].model)
    image, tokens = jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 15), jnp.int32)
    init = partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), image, tokens, jnp.ones(1, jnp.int32))
    with torch.device("meta"):
        twin = TorchLTS(10000, **ALL[name].model)
    ours = {k: x.shape for k, x in flatten_dict(shapes, sep="/").items()}
    rows = {path: row.shape for row in table(twin) for path in row.paths}
    return ours, rows, sum(x.numel() for x in twin.parameters())


@all_variants
def test_full_size_has_the_same_parameters(name: str) -> None:
    ours, rows, count = full_size(name)
    assert rows == ours
    assert count == sum(np.prod(x) for k, x in ours.items() if k.startswith("params/"))
