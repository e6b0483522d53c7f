"""Compares the JAX network with PyTorch: outputs, gradients, statistics and Adam steps."""

import contextlib
from collections.abc import Iterator
from functools import cache, partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import unflatten_dict

from lts_jax.models import LTS
from lts_jax.steps.optimizer import make_optimizer
from tests.lts_jax.helpers.oracles import relative_error
from tests.lts_jax.helpers.tiny import TINY

torch = pytest.importorskip("torch")

from benchmarks.peer.lts import TorchLTS
from benchmarks.peer.weights import to_flax, to_torch
from tests.benchmarks.peer.variants import all_variants, each_of
from tests.lts_jax.helpers.twins import (
    SAME,
    VOCAB,
    Result,
    as_dict,
    flat,
    flax_rest,
    jit,
    make_batch,
    make_torch,
    make_variables,
    run_flax,
    run_torch,
    torch_gradients,
    torch_inputs,
)

# Larger than the number of parameters.
VECTOR = 2**19

# These gradients are zero. A key bias shifts all scores of a query, which does not change the
# softmax; over the single token of the cross-attention, the softmax is always 1.
ZERO_GRADIENTS = ("self_attention/key/bias", "cross_attention/query/", "cross_attention/key/")


@cache
def results(name: str) -> tuple[Result, Result]:
    """Returns the results of JAX and PyTorch in float32."""
    rest = flax_rest(name, jnp.float32)
    ours = run_flax(name, make_variables(name), rest, make_batch(), evaluate=True)
    return ours, run_torch(name, make_batch())


def assert_close(ours: dict[str, Any], reference: dict[str, Any], tolerance: float) -> None:
    """Checks every array within a relative error; reports all arrays on failure."""
    assert ours.keys() == reference.keys()
    errors = {k: relative_error(ours[k], reference[k]) for k in ours}
    assert not {k: e for k, e in errors.items() if not e <= tolerance}


def nonzero(gradients: dict[str, Any]) -> dict[str, Any]:
    return {k: x for k, x in gradients.items() if not any(part in k for part in ZERO_GRADIENTS)}


@pytest.mark.slow
@all_variants
def test_outputs(name: str) -> None:
    ours, reference = results(name)
    assert_close(ours.evaluated, reference.evaluated, 1e-4)
    assert_close(ours.trained, reference.trained, 1e-4)


@pytest.mark.slow
@all_variants
def test_loss(name: str) -> None:
    ours, reference = results(name)
    assert ours.loss == pytest.approx(reference.loss, rel=1e-5)


@all_variants
def test_gradients(name: str) -> None:
    ours, reference = results(name)
    assert_close(nonzero(ours.gradients), nonzero(reference.gradients), 1e-3)
    # Only rounding errors remain, relative to the network's largest gradients.
    scale = max(np.abs(x).max() for x in reference.gradients.values())
    for path in ours.gradients.keys() - nonzero(ours.gradients).keys():
        for gradient in (ours.gradients[path], reference.gradients[path]):
            assert np.abs(gradient).max() <= 1e-6 * scale, path


@all_variants
def test_batch_norm_statistics(name: str) -> None:
    ours, reference = results(name)
    assert_close(ours.statistics, reference.statistics, 1e-4)


def two_steps(name: str, double: bool) -> tuple[dict[str, np.ndarray], ...]:
    """Returns JAX's and PyTorch's parameters after and before two steps."""
    # XLA's float64 convolutions are slow.
    batch = make_batch(32, 64) if double else make_batch()
    dtype = np.float64 if double else np.float32
    variables = jax.tree.map(lambda x: np.asarray(x, dtype), make_variables(name))
    start = flat({"params": variables["params"]})
    ends = np.cumsum([x.size for x in start.values()])

    # Adam is elementwise. On a vector of fixed length for all variants, it compiles only once.
    def join(arrays: dict[str, np.ndarray]) -> jax.Array:
        vector = np.concatenate([arrays[k].ravel() for k in start])
        return jnp.asarray(np.pad(vector, (0, VECTOR - vector.size)))

    def split(vector: jax.Array) -> dict[str, np.ndarray]:
        parts = np.split(np.asarray(vector), ends)[:-1]
        return {k: x.reshape(start[k].shape) for k, x in zip(start, parts, strict=True)}

    adam = make_optimizer(optax.constant_schedule(1e-3))
    with double_precision() if double else contextlib.nullcontext():
        rest, vector = flax_rest(name, jnp.float64 if double else jnp.float32), join(start)
        state = adam.init(vector)
        for _ in range(2):
            moved = {**variables, **unflatten_dict(split(vector), sep="/")}
            result = run_flax(name, moved, rest, batch, evaluate=False)
            assert all(x.dtype == dtype for x in result.trained.values())
            updates, state = adam.update(join(result.gradients), state)
            vector = optax.apply_updates(vector, updates)
    ours = split(vector)

    model = make_torch(name, torch.float64 if double else torch.float32).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        torch_gradients(name, model, batch)
        optimizer.step()
    return ours, flat({"params": to_flax(model.state_dict(), model)["params"]}), start


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Replaces float32, which the network uses for outputs and softmax, with float64."""
    with jax.enable_x64(True), mock.patch.object(jnp, "float32", jnp.float64):
        yield


# With logits as the prior, which no variant of the paper uses, the sign of a few tiny gradients is
# rounding error, and Adam's step depends on the sign. In float64, below, they agree.
@pytest.mark.slow
@each_of(set(SAME.values()) - {"prior_logits"}, quick=("lts",))
def test_parameters_after_two_adam_steps(name: str) -> None:
    ours, reference, _ = two_steps(name, double=False)
    assert_close(nonzero(ours), nonzero(reference), 1e-3)


@pytest.mark.slow
@all_variants
def test_how_far_two_adam_steps_move_the_parameters(name: str) -> None:
    """Uses float64, because Adam amplifies rounding differences."""
    ours, reference, start = two_steps(name, double=True)
    ours, reference = ({k: x - start[k] for k, x in ends.items()} for ends in (ours, reference))
    assert_close(nonzero(ours), nonzero(reference), 1e-6)
    for path in ours.keys() - nonzero(ours).keys():
        assert max(np.abs(ours[path]).max(), np.abs(reference[path]).max()) <= 1e-8, path


@pytest.mark.slow
def test_one_call_without_neck() -> None:
    # The tests above call the parts separately.
    def strip(tree: Any) -> Any:
        backbone = {k: x for k, x in tree["backbone"].items() if "neck" not in k}
        return {**tree, "backbone": backbone}

    batch = make_batch()
    variables = {k: strip(x) for k, x in make_variables("lts").items()}
    model = LTS(vocab_size=VOCAB, **TINY, neck=False)
    ours = jit(partial(model.apply, train=False))(variables, *batch[:3])
    twin = TorchLTS(VOCAB, **TINY, neck=False).eval()
    twin.load_state_dict(to_torch(variables, twin))
    with torch.no_grad():
        assert_close(as_dict(ours), as_dict(twin(*torch_inputs(batch)[0])), 1e-4)
