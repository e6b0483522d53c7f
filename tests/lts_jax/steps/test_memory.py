"""Memory-saving steps (microbatches and rematerialization) compute the same results."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lts_jax.distributed.mesh import make_mesh, put_batch, replicated
from lts_jax.models import LTS, convolution, losses
from lts_jax.state import train_state
from lts_jax.steps.optimizer import make_optimizer
from lts_jax.steps.training import StepSettings, compile_train_step
from tests.lts_jax.helpers.drawn import draw_state
from tests.lts_jax.helpers.oracles import relative_error
from tests.lts_jax.helpers.tiny import TINY

pytestmark = pytest.mark.slow

MODEL = LTS(vocab_size=9, **(TINY | {"backbone_stages": (1, 0, 1, 0, 0)}))
SMALLER = MODEL.clone(segment=False)
MESH = make_mesh(jax.devices()[:1])
SIZE = 64


def make_batch(n):
    rng = np.random.default_rng(0)
    truth4 = rng.integers(0, 2, (n, SIZE // 4, SIZE // 4), dtype=np.uint8)
    return {
        "image": rng.integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8),
        "tokens": rng.integers(1, 9, (n, 5)).astype(np.int32),
        "length": rng.integers(1, 6, n).astype(np.int32),
        "truth4": truth4,
        "truth8": truth4[:, ::2, ::2],
    }


def compiled(model, optimizer, n, **fields):
    """Returns the initial state and the compiled train step."""
    shapes = jax.eval_shape(lambda: train_state.init_state(model, optimizer, 0, SIZE, 5))
    state = jax.device_put(draw_state(shapes), replicated(MESH))
    step = compile_train_step(StepSettings(model, optimizer, 0.1, MESH, **fields))
    return state, step.lower(state, put_batch(make_batch(n), MESH)).compile()


def test_rematerialized(monkeypatch):
    """Rematerialization saves memory without changing gradients and parameter names."""
    # As on GPUs: the CPU's gradients by taps need additional memory, with and without remat.
    monkeypatch.setattr(
        convolution.lax, "platform_dependent", lambda *args, cpu, default: default(*args)
    )
    optimizer = make_optimizer(optax.constant_schedule(1e-3))
    results, memory = {}, {}
    for remat in (False, True):
        state, step = compiled(MODEL.clone(remat=remat), optimizer, 8)
        memory[remat] = step.memory_analysis().temp_size_in_bytes
        results[remat] = step(state, put_batch(make_batch(8), MESH))
    assert memory[True] < 0.6 * memory[False]
    (plain, losses_plain), (ours, losses_ours) = results[False], results[True]
    assert jax.tree.structure(plain) == jax.tree.structure(ours)
    for name, value in losses_plain.items():
        np.testing.assert_allclose(losses_ours[name], value, rtol=1e-5)
    # Adam's first moment is the scaled gradient.
    moments = (jax.tree.leaves(x.opt_state[0].mu) for x in (plain, ours))
    for a, b in zip(*moments, strict=True):
        assert relative_error(b, a) < 1e-4


def test_accumulated_with_a_frozen_backbone():
    """Three microbatches give mean losses and gradients; frozen parts are bitwise identical."""
    parts, n = 3, 6
    optimizer = make_optimizer(optax.constant_schedule(1e-3), frozen=("backbone",))
    state, step = compiled(SMALLER, optimizer, n, freeze_backbone=True, accumulate=parts)
    # Choose statistics whose mean over three equal values differs in the last digit.
    moved = jax.tree.map(lambda x: x + 0.1 + 0.001 * jnp.arange(x.size), state.batch_stats)
    state = state.replace(batch_stats=jax.device_put(moved, replicated(MESH)))
    before = jax.device_get(state)

    @jax.jit
    def gradients(params, stats, batch):
        def loss_fn(params):
            variables = {"params": params, "batch_stats": stats}
            image = batch["image"].astype(jnp.float32) / 255
            features = SMALLER.apply(variables, image, train=False, method="encode_image")
            text = SMALLER.apply(variables, batch["tokens"], batch["length"], method="encode_text")
            outputs, updates = SMALLER.apply(
                variables, features, text, train=True, method="refer", mutable=["batch_stats"]
            )
            loss, _ = losses.total_loss(outputs, batch["truth4"], batch["truth8"], 0.1)
            return loss, updates["batch_stats"]

        rest = {k: v for k, v in params.items() if k != "backbone"}
        results = jax.value_and_grad(lambda rest: loss_fn(params | rest), has_aux=True)(rest)
        return results

    batch = make_batch(n)
    results = [
        gradients(before.params, before.batch_stats, {k: v[i::parts] for k, v in batch.items()})
        for i in range(parts)
    ]
    (loss, stats), grads = jax.tree.map(lambda *x: sum(x) / parts, *results)

    after, metrics = step(state, put_batch(batch, MESH))
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], optax.tree.norm(grads), rtol=1e-4)
    for name, tree in stats.items():
        if name != "backbone":
            for a, b in zip(
                jax.tree.leaves(after.batch_stats[name]), jax.tree.leaves(tree), strict=True
            ):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for kind in ("params", "batch_stats"):
        was, now = (jax.tree.leaves(getattr(s, kind)["backbone"]) for s in (before, after))
        for a, b in zip(was, now, strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert all(
        relative_error(a, b) > 0
        for a, b in zip(
            jax.tree.leaves(after.params["fusion"]),
            jax.tree.leaves(before.params["fusion"]),
            strict=True,
        )
    )


@pytest.mark.eight_devices
def test_accumulation_communicates_only_by_all_reduce():
    """Each device already holds its share of each microbatch."""
    mesh = make_mesh(jax.devices()[:2])
    optimizer = make_optimizer(optax.constant_schedule(1e-3))
    state = jax.eval_shape(lambda: train_state.init_state(SMALLER, optimizer, 0, SIZE, 5))
    step = compile_train_step(StepSettings(SMALLER, optimizer, 0.1, mesh, accumulate=2))
    program = step.lower(state, make_batch(8)).compile().as_text()
    assert "all-reduce" in program
    for operation in ("all-gather", "all-to-all", "collective-permute"):
        assert operation not in program
