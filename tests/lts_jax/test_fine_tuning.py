"""What stands still and what moves how far, with the real train step."""

import jax
import numpy as np
import optax
import pytest

from lts_jax import sharding, steps
from lts_jax.models import LTS
from lts_jax.optim import PARTS, make_optimizer, parts_of

from tiny import TINY

MODEL = LTS(vocab_size=9, **TINY)
MESH = sharding.make_mesh(jax.devices()[:1])


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
    return sharding.put_batch(batch, MESH)


def train(optimizer, n_steps, freeze_backbone=False, mark=lambda params: params):
    """Returns the states before and after."""

    def fresh():
        state = steps.init_state(MODEL, optimizer, 0, 64, 5)
        return state.replace(params=mark(state.params))

    state = jax.jit(fresh, out_shardings=sharding.replicated(MESH))()
    before = jax.device_get(state)
    step = steps.compile_train_step(MODEL, optimizer, 0.1, MESH, freeze_backbone)
    losses, batch = [], make_batch()
    for _ in range(n_steps):
        state, parts = step(state, batch)
        losses.append(float(parts["loss"]))
    return before, jax.device_get(state), losses


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


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
    # Everything else has moved, its statistics too.
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
    # No moments are kept for what never moves.
    kept = sum(x.size for x in jax.tree.leaves(after.opt_state))
    moving = sum(
        x.size for k, v in after.params.items() if k != "backbone" for x in jax.tree.leaves(v)
    )
    assert kept < 2.1 * moving


def norms(before, after):
    squares = dict.fromkeys(PARTS, 0.0)
    labels = jax.tree.leaves(parts_of(before.params))
    old, new = jax.tree.leaves(before.params), jax.tree.leaves(after.params)
    for label, a, b in zip(labels, old, new, strict=True):
        squares[label] += float(((b.astype(np.float64) - a) ** 2).sum())
    return {k: v**0.5 for k, v in squares.items()}


def test_learning_rates_by_part():
    """Adam's first update is the learning rate times a vector that knows no learning rate."""
    schedule = optax.constant_schedule(1e-3)
    plain = norms(*train(make_optimizer(schedule), 1)[:2])
    multipliers = dict(zip(PARTS, (0.1, 0.0, 0.5, 1.0, 2.0, 3.0), strict=True))
    scaled = norms(*train(make_optimizer(schedule, multipliers), 1)[:2])
    assert all(value > 0 for value in plain.values())
    for part, factor in multipliers.items():
        assert scaled[part] == pytest.approx(factor * plain[part], rel=1e-3), part


def test_every_parameter_has_a_part():
    for changes in ({}, {"segment": False, "locate": "none"}, {"rounds": 2}):
        model = LTS(vocab_size=9, **{**TINY, **changes})
        optimizer = make_optimizer(optax.constant_schedule(1e-3), {"text": 0.5})
        params = jax.eval_shape(
            lambda m=model, o=optimizer: steps.init_state(m, o, 0, 64, 5)
        ).params
        assert set(jax.tree.leaves(parts_of(params))) <= set(PARTS)
