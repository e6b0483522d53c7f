"""Frozen parts and learning rates by part, with the real training step."""

import jax
import numpy as np
import optax
import pytest

from lts_jax.configs import default
from lts_jax.distributed.mesh import make_mesh, put_batch, replicated
from lts_jax.models import LTS
from lts_jax.state import train_state
from lts_jax.steps.optimizer import make_optimizer, parts_of
from lts_jax.steps.training import StepSettings, compile_train_step
from tests.lts_jax.helpers.tiny import TINY

MODEL = LTS(vocab_size=9, **TINY)
MESH = make_mesh(jax.devices()[:1])


def make_batch():
    rng = np.random.default_rng(0)
    truth4 = np.zeros((4, 16, 16), np.uint8)
    truth4[:, 4:10, 3:9] = 1
    batch = {
        "image": rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8),
        "tokens": rng.integers(1, 9, (4, 5)).astype(np.int32),
        "length": rng.integers(1, 6, 4).astype(np.int32),
        "truth4": truth4,
        "truth8": truth4[:, ::2, ::2],
    }
    return put_batch(batch, MESH)


def train(optimizer, n_steps, freeze_backbone=False, mark=lambda params: params):
    """Returns the states before and after."""

    def fresh():
        state = train_state.init_state(MODEL, optimizer, 0, 64, 5)
        return state.replace(params=mark(state.params))

    state = jax.jit(fresh, out_shardings=replicated(MESH))()
    before = jax.device_get(state)
    step = compile_train_step(StepSettings(MODEL, optimizer, 0.1, MESH, freeze_backbone))
    losses, batch = [], make_batch()
    for _ in range(n_steps):
        state, parts = step(state, batch)
        losses.append(float(parts["loss"]))
    return before, jax.device_get(state), losses


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@pytest.mark.slow
def test_a_frozen_backbone_is_the_same_to_the_bit_after_20_steps():
    def with_negative_zeros(params):
        stem = params["backbone"]["stem"]
        norm = {**stem["norm"], "bias": -0.0 * stem["norm"]["bias"]}
        return {**params, "backbone": {**params["backbone"], "stem": {**stem, "norm": norm}}}

    optimizer = make_optimizer(optax.constant_schedule(1e-2), frozen=("backbone",))
    before, after, losses = train(optimizer, 20, True, with_negative_zeros)
    assert int(after.step) == 20 and losses[-1] < losses[0]
    assert np.signbit(before.params["backbone"]["stem"]["norm"]["bias"]).all()
    assert bits(after.params["backbone"]) == bits(before.params["backbone"])
    assert bits(after.batch_stats["backbone"]) == bits(before.batch_stats["backbone"])
    # Everything else has changed, including its statistics.
    for part in after.params.keys() - {"backbone"}:
        assert all(
            (a != b).any()
            for a, b in zip(
                jax.tree.leaves(after.params[part]),
                jax.tree.leaves(before.params[part]),
                strict=True,
            )
        ), part
    assert bits(after.batch_stats["fusion"]) != bits(before.batch_stats["fusion"])
    # The optimizer stores no moments for frozen parameters.
    kept = sum(x.size for x in jax.tree.leaves(after.opt_state))
    moving = sum(
        x.size for k, v in after.params.items() if k != "backbone" for x in jax.tree.leaves(v)
    )
    assert kept < 2.1 * moving


PARTS = tuple(default.get_config().train.lr_multipliers)


def norms(updates):
    squares = dict.fromkeys(PARTS, 0.0)
    labels = jax.tree.leaves(parts_of(updates))
    for label, x in zip(labels, jax.tree.leaves(updates), strict=True):
        squares[label] += float((np.asarray(x, np.float64) ** 2).sum())
    return {part: value**0.5 for part, value in squares.items()}


@pytest.mark.slow
def test_learning_rates_by_part():
    """Compares the norms of the second of two updates with the same gradients."""
    multipliers = dict(zip(PARTS, (0.1, 0.0, 0.5, 1.0, 2.0, 3.0), strict=True))
    schedule = optax.piecewise_constant_schedule(1e-3, {1: 0.1})
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: train_state.init_state(MODEL, optax.adam(1.0), 0, 64, 5)).params
    gradients = jax.tree.map(lambda x: rng.normal(0, 1, x.shape).astype(np.float32), shapes)
    by_part = []
    for optimizer in (make_optimizer(schedule), make_optimizer(schedule, multipliers)):
        state = optimizer.init(gradients)
        for _ in range(2):
            updates, state = optimizer.update(gradients, state, gradients)
        by_part.append(norms(updates))
    plain, scaled = by_part
    sizes = {
        part: value / 1e-4 for part, value in plain.items()
    }  # Adam's updates for gradients of ones
    assert all(size > 1 for size in sizes.values())
    for part, factor in multipliers.items():
        assert scaled[part] == pytest.approx(factor * plain[part], rel=1e-5), part


def test_every_parameter_has_a_part():
    for changes in ({}, {"segment": False, "locate": "none"}, {"rounds": 2}):
        model = LTS(vocab_size=9, **{**TINY, **changes})
        optimizer = make_optimizer(optax.constant_schedule(1e-3), {"text": 0.5})
        params = jax.eval_shape(
            lambda m=model, o=optimizer: train_state.init_state(m, o, 0, 64, 5)
        ).params
        assert set(jax.tree.leaves(parts_of(params))) <= set(PARTS)
