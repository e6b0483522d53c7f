import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pycocotools import mask as coco

from lts_jax import sharding, steps
from lts_jax.data.preprocess import place
from lts_jax.models import LTS
from lts_jax.optim import make_optimizer

from oracles import relative_error
from tiny import TINY

MODEL = LTS(vocab_size=9, **TINY)
OPTIMIZER = make_optimizer(optax.constant_schedule(1e-3))
QUICK = make_optimizer(optax.constant_schedule(1e-2))


def make_batch(n=8):
    rng = np.random.default_rng(0)
    truth4 = np.zeros((n, 16, 16), np.uint8)
    truth4[:, 4:10, 3:9] = 1
    return {
        "image": rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8),
        "tokens": rng.integers(1, 9, (n, 5)).astype(np.int32),
        "length": rng.integers(1, 6, n).astype(np.int32),
        "truth4": truth4,
        "truth8": truth4[:, ::2, ::2],
    }


def run(n_devices, n_steps, optimizer=OPTIMIZER):
    """Trains on one batch over a mesh of some of the simulated devices."""
    if jax.device_count() < n_devices:
        pytest.skip(f"{jax.device_count()} devices here, {n_devices} wanted")
    mesh = sharding.make_mesh(jax.devices()[:n_devices])
    state = jax.jit(
        lambda: steps.init_state(MODEL, optimizer, 0, 64, 5),
        out_shardings=sharding.replicated(mesh),
    )()
    step = steps.compile_train_step(MODEL, optimizer, 0.1, mesh)
    batch = sharding.put_batch(make_batch(), mesh)
    losses = []
    for _ in range(n_steps):
        state, parts = step(state, batch)
        losses.append(float(parts["loss"]))
    return state, losses


def test_a_batch_is_learned():
    state, losses = run(1, 60, QUICK)
    assert int(state.step) == 60
    assert losses[-1] < 0.2 * losses[0]


def test_eight_devices_equal_one():
    one, losses_one = run(1, 1)
    eight, losses_eight = run(8, 1)
    np.testing.assert_allclose(losses_eight, losses_one, rtol=1e-5)
    # BatchNorm's statistics are those of the whole batch, not of each device's share.
    for ours, theirs in zip(
        jax.tree.leaves(eight.batch_stats), jax.tree.leaves(one.batch_stats), strict=True
    ):
        assert relative_error(ours, theirs) < 1e-4
    # Adam's first moment is the gradient, scaled.
    for ours, theirs in zip(
        jax.tree.leaves(eight.opt_state[0].mu), jax.tree.leaves(one.opt_state[0].mu), strict=True
    ):
        assert relative_error(ours, theirs) < 1e-3


def test_batch_size_must_divide_over_the_devices():
    mesh = sharding.make_mesh()
    with pytest.raises(ValueError, match=r"train\.batch_size=18 .* 8 devices: take 16 or 24"):
        sharding.check_batch_size("train.batch_size", 18, mesh)
    with pytest.raises(ValueError, match=r"take 8$"):
        sharding.check_batch_size("train.batch_size", 3, mesh)
    sharding.check_batch_size("train.batch_size", 16, mesh)


def test_eval_step_scores_as_pycocotools_does():
    rng = np.random.default_rng(1)
    sizes = [(50, 40), (33, 64), (1, 20), (64, 64)]
    truth = np.zeros((4, 64, 64), np.uint8)
    for i, (h, w) in enumerate(sizes):
        truth[i, :h, :w] = rng.integers(0, 2, (h, w))
    batch = {k: v[:4] for k, v in make_batch().items() if not k.startswith("truth")}
    batch["truth"] = truth
    batch["placement"] = np.array([place(*size, 64, "letterbox") for size in sizes], np.int32)
    state = steps.init_state(MODEL, OPTIMIZER, 0, 64, 5)
    out = jax.jit(steps.make_eval_step(MODEL, 0.5, (64, 64)))(state, batch)
    assert out["prediction"].dtype == jnp.bool_
    assert np.asarray(out["prediction"]).any()
    for i, (h, w) in enumerate(sizes):
        prediction = np.asarray(out["prediction"][i])
        assert not prediction[h:].any() and not prediction[:, w:].any()
        ours, theirs = (
            coco.encode(np.asfortranarray(m[:h, :w].astype(np.uint8)))
            for m in (prediction, truth[i])
        )
        both = coco.area(coco.merge([ours, theirs], intersect=True))
        either = coco.area(coco.merge([ours, theirs]))
        assert (int(out["intersection"][i]), int(out["union"][i])) == (both, either)
