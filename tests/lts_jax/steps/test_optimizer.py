import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lts_jax.steps.optimizer import PARTS, make_optimizer, make_schedule, parts_of


def test_the_papers_schedule():
    schedule = make_schedule(1e-3, (30.0,), 0.1, 6701.33)
    drop = round(30 * 6701.33)
    # Steps count from 0: the first one after 30 epochs is step number 30 N.
    assert float(schedule(0)) == float(schedule(drop - 1)) == pytest.approx(1e-3)
    assert float(schedule(drop)) == float(schedule(45 * 6702)) == pytest.approx(1e-4)


def test_two_drops():
    schedule = make_schedule(1.0, (0.5, 2.0), 0.1, 10)
    values = [float(schedule(step)) for step in (0, 4, 5, 19, 20)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_updates_equal_torchs_adam():
    torch = pytest.importorskip("torch", reason="torch.optim.Adam is the oracle")
    rng = np.random.default_rng(0)
    start = rng.normal(size=7)
    gradients = rng.normal(size=(20, 7))
    theirs = torch.tensor(start, requires_grad=True)
    adam = torch.optim.Adam([theirs], lr=1e-3)
    params = jnp.asarray(start)
    optimizer = make_optimizer(optax.constant_schedule(1e-3))
    state = optimizer.init(params)
    for gradient in gradients:
        theirs.grad = torch.tensor(gradient)
        adam.step()
        updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, theirs.detach().numpy(), atol=1e-6)


def test_every_array_is_of_a_part():
    names = ("backbone", "text", "fusion", "attention", "locator", "segmenter", "pointrend", "head")
    params = {name: {"layer": {"kernel": 0}} for name in names} | {"text": {"embed": 0, "cell": 0}}
    parts = parts_of(params)
    assert parts["attention"] == {"layer": {"kernel": "fusion"}}
    assert parts["pointrend"] == parts["head"] == {"layer": {"kernel": "segmenter"}}
    assert parts["text"] == {"embed": "words", "cell": "text"}
    assert set(jax.tree.leaves(parts)) == set(PARTS)
