"""Options for fine-tuning transformers: weight decay, warm-up, clipping and weight averaging."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lts_jax.models import LTS
from lts_jax.steps.averaging import replace_trained, trained_params
from lts_jax.steps.optimizer import decays, make_optimizer, make_schedule
from tests.lts_jax.helpers.tiny import TINY


def params_of(**options):
    model = LTS(vocab_size=9, **(TINY | {"backbone_stages": (), "backbone_width": 8} | options))
    return jax.eval_shape(
        lambda: model.init(
            jax.random.key(0),
            jnp.zeros((1, 64, 64, 3)),
            jnp.zeros((1, 5), jnp.int32),
            jnp.ones(1, jnp.int32),
            train=False,
        )
    )["params"]


def test_weight_decay_equals_torchs_adamw_and_spares_biases():
    torch = pytest.importorskip("torch", reason="torch.optim.AdamW is the oracle")
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=7), rng.normal(size=(10, 7))
    params = {"kernel": jnp.asarray(start), "bias": jnp.asarray(start)}
    theirs = {k: torch.tensor(start, requires_grad=True) for k in params}
    adamw = torch.optim.AdamW(
        [
            {"params": theirs["kernel"], "weight_decay": 0.3},
            {"params": theirs["bias"], "weight_decay": 0.0},
        ],
        lr=1e-2,
    )
    optimizer = make_optimizer(optax.constant_schedule(1e-2), weight_decay=0.3)
    state = optimizer.init(params)
    for gradient in gradients:
        for value in theirs.values():
            value.grad = torch.tensor(gradient)
        adamw.step()
        both = dict.fromkeys(params, jnp.asarray(gradient, jnp.float32))
        updates, state = optimizer.update(both, state, params)
        params = optax.apply_updates(params, updates)
    for name, value in theirs.items():
        np.testing.assert_allclose(params[name], value.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("backbone", ["swin_tiny", "convnext_tiny", "efficientnet_lite0"])
def test_what_decays(backbone):
    params = params_of(
        image_encoder=backbone, text_encoder="bert", bert_hidden=8, bert_heads=2, bert_layers=1
    )
    marked = jax.tree_util.tree_leaves_with_path(decays(params))
    spared = {path[-1].key for path, decayed in marked if not decayed}
    assert spared <= {"bias", "scale", "bias_table"} and "bias" in spared
    assert {path[-1].key for path, decayed in marked if decayed} == {"kernel", "embedding"}


def test_multipliers_decay_and_clipping_together():
    params = {part: {"kernel": jnp.ones(4)} for part in ("backbone", "text", "fusion")}
    optimizer = make_optimizer(
        optax.constant_schedule(0.1), {"text": 0.5}, ("backbone",), 0.2, clip_norm=1.0
    )
    gradients = jax.tree.map(lambda x: 1e3 * x, params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    assert not updates["backbone"]["kernel"].any()
    np.testing.assert_allclose(updates["fusion"]["kernel"], -0.1 * (1 + 0.2), rtol=1e-4)
    np.testing.assert_allclose(updates["text"]["kernel"], -0.05 * (1 + 0.2), rtol=1e-4)


def test_clipping_acts_on_the_norm_of_all_parts():
    optimizer = make_optimizer(optax.constant_schedule(0.1), clip_norm=1.0)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    state = optimizer.init(params)
    _, state = optimizer.update({"a": jnp.array([30.0]), "b": jnp.array([40.0])}, state, params)
    mu = optax.tree.get(state, "mu")
    np.testing.assert_allclose([mu["a"][0], mu["b"][0]], [0.06, 0.08], rtol=1e-5)


def test_warm_up_and_polynomial_decay():
    schedule = make_schedule(1.0, (), 0.1, 10.0, 0.5, 0.9, 100)
    rates = [float(schedule(step)) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 6)
    assert rates[5] == pytest.approx((1 - 5 / 100) ** 0.9)
    assert rates[50] == pytest.approx(0.5**0.9)
    assert rates[:6] == sorted(rates[:6]) and rates[6:] == sorted(rates[6:], reverse=True)
    assert 0 < rates[99] < 0.02


def test_the_parameters_are_the_average_of_those_trained():
    decay = 0.9
    plain, averaged = (
        make_optimizer(optax.constant_schedule(0.1), ema=ema) for ema in (0.0, decay)
    )
    params = trained = {"kernel": jnp.array([1.0, -2.0])}
    inner, state, expected = plain.init(params), averaged.init(params), params
    for step in range(30):
        gradients = jax.tree.map(lambda x: x - 3.0, trained_params(params, state))
        updates, inner = plain.update(gradients, inner, trained)
        trained = optax.apply_updates(trained, updates)
        kept = min(decay, (2 + step) / (11 + step))
        expected = jax.tree.map(lambda e, t, k=kept: k * e + (1 - k) * t, expected, trained)
        updates, state = averaged.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(trained_params(params, state)["kernel"], trained["kernel"], 1e-5)
    np.testing.assert_allclose(params["kernel"], expected["kernel"], 1e-5)
    assert trained_params(trained, inner) is trained


def test_first_weights_are_trained_too():
    optimizer = make_optimizer(optax.constant_schedule(0.1), ema=0.9)
    state = replace_trained(optimizer.init({"kernel": jnp.zeros(2)}), {"kernel": jnp.ones(2)})
    assert (trained_params(None, state)["kernel"] == 1).all()
