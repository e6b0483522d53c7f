import functools
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lts_jax.data.image_ops import place
from lts_jax.distributed.mesh import check_batch_size, make_mesh, put_batch, replicated
from lts_jax.models import LTS
from lts_jax.state import train_state
from lts_jax.steps import inference, original_size
from lts_jax.steps.optimizer import make_optimizer
from lts_jax.steps.scoring import compile_score_step, score_step
from lts_jax.steps.training import StepSettings, compile_train_step
from tests.lts_jax.helpers.drawn import draw_state
from tests.lts_jax.helpers.oracles import relative_error
from tests.lts_jax.helpers.tiny import TINY

MODEL = LTS(vocab_size=9, **TINY)
SHALLOW = {"backbone_stages": (0, 0, 1, 0, 0), "neck": False}  # compiles in half the time
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
    """Trains on one batch over a mesh of `n_devices` simulated devices."""
    mesh = make_mesh(jax.devices()[:n_devices])
    shapes = jax.eval_shape(lambda: train_state.init_state(MODEL, optimizer, 0, 64, 5))
    state = jax.device_put(draw_state(shapes), replicated(mesh))
    step = compile_train_step(StepSettings(MODEL, optimizer, 0.1, mesh))
    batch = put_batch(make_batch(), mesh)
    losses = []
    for _ in range(n_steps):
        state, parts = step(state, batch)
        losses.append(float(parts["loss"]))
    return state, losses


@pytest.mark.slow
def test_a_batch_is_learned():
    state, losses = run(1, 60, QUICK)
    assert int(state.step) == 60
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.eight_devices
def test_eight_devices_equal_one():
    one, losses_one = run(1, 1)
    eight, losses_eight = run(8, 1)
    np.testing.assert_allclose(losses_eight, losses_one, rtol=1e-5)
    # BatchNorm statistics are computed over the global batch, not over each device's shard.
    for ours, theirs in zip(
        jax.tree.leaves(eight.batch_stats), jax.tree.leaves(one.batch_stats), strict=True
    ):
        assert relative_error(ours, theirs) < 1e-4
    # Adam's first moment is the scaled gradient.
    for ours, theirs in zip(
        jax.tree.leaves(eight.opt_state[0].mu), jax.tree.leaves(one.opt_state[0].mu), strict=True
    ):
        assert relative_error(ours, theirs) < 1e-3


@pytest.mark.eight_devices
def test_batch_size_must_divide_over_the_devices():
    mesh = make_mesh()
    with pytest.raises(ValueError, match=r"train\.batch_size=18 .* 8 devices: set 16 or 24"):
        check_batch_size("train.batch_size", 18, mesh)
    with pytest.raises(ValueError, match=r"set 8$"):
        check_batch_size("train.batch_size", 3, mesh)
    check_batch_size("train.batch_size", 16, mesh)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts", [{}, {"rounds": 2, "segment": False}, {"locate": "none"}], ids=str
)
def test_steps_match_the_network_on_each_pair(parts):
    """Two images with four sentences give the same masks as the network on the four pairs."""
    model = LTS(vocab_size=9, **(TINY | parts))
    sizes = [(50, 40), (33, 64)]
    placement = np.array([place(*size, 64, "letterbox") for size in sizes], np.int32)
    images = make_batch(2)["image"]
    of = np.array([1, 0, 0, 1], np.int32)
    batch = {k: make_batch(4)[k] for k in ("tokens", "length")} | {"image": of}
    truth = np.random.default_rng(1).integers(0, 2, (4, 64, 64)).astype(bool)
    state = jax.jit(lambda: train_state.init_state(model, OPTIMIZER, 0, 64, 5))()
    # Larger weights make the masks depend on the sentence and avoid values near the threshold.
    state = state.replace(
        params=jax.tree.map(lambda p: 1.75 * p if p.ndim > 1 else p, state.params)
    )

    features = jax.jit(partial(inference.encode, model))(state, images)
    score = jax.jit(partial(score_step, model=model, thresholds=(0.5,), pictures=True))
    out = score(state, features, placement, batch | {"truth": np.packbits(truth, axis=2)})

    outputs = jax.jit(functools.partial(model.apply, train=False))(
        {"params": state.params, "batch_stats": state.batch_stats},
        inference.to_float(jnp.asarray(images[of])),
        batch["tokens"],
        batch["length"],
    )
    stride = 64 // outputs.mask.shape[1]
    assert stride == (4 if parts.get("segment", True) else 8)
    full = original_size.to_original_size(
        jax.nn.sigmoid(outputs.mask), jnp.asarray(placement[of]), (64, 64), stride
    )
    prediction = np.unpackbits(out["prediction"], axis=2) > 0
    near = np.abs(np.asarray(full) - 0.5) < 1e-5
    assert near.mean() < 1e-3
    assert np.abs(np.diff(full, axis=0)).max(axis=(1, 2)).min() > 0.01
    assert ((prediction == np.asarray(full > 0.5)) | near).all()
    if parts.get("locate") == "none":
        assert not {"point", "hit", "heatmap"} & set(out)
    else:
        heatmap = jax.nn.sigmoid(outputs.heatmap)
        assert heatmap.shape == (4, parts.get("rounds", 1), 8, 8)
        np.testing.assert_allclose(out["heatmap"] / 255, heatmap, atol=0.5 / 255 + 1e-5)
        assert out["hit"].shape == (4,) and out["point"].shape == (4, 2)


@pytest.mark.eight_devices
def test_scoring_needs_no_communication_between_devices():
    """Each sentence's image is encoded on the sentence's device."""
    mesh = make_mesh()
    state = draw_state(jax.eval_shape(lambda: train_state.init_state(MODEL, OPTIMIZER, 0, 64, 5)))
    batch = {k: make_batch()[k] for k in ("tokens", "length")}
    batch |= {"image": np.zeros(8, np.int32), "truth": np.zeros((8, 64, 8), np.uint8)}
    features = inference.compile_encode_step(MODEL, mesh)(state, make_batch()["image"])
    assert len(features.taps.stride8.sharding.device_set) == 8
    assert not features.taps.stride8.sharding.is_fully_replicated
    placement = np.tile(np.array([place(64, 64, 64, "letterbox")], np.int32), (8, 1))
    score = compile_score_step(MODEL, (0.5,), mesh, pictures=True)
    program = score.lower(state, features, placement, batch).compile().as_text()
    assert "fusion" in program
    for operation in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert operation not in program


@pytest.mark.parametrize(
    ("parts", "options", "devices"),
    [
        pytest.param({}, {}, 1, marks=pytest.mark.slow),
        pytest.param({"segmenter_rates": (2, 3, 4), "remat": True}, {}, 1, marks=pytest.mark.slow),
        pytest.param({}, {"accumulate": 2}, 1, marks=pytest.mark.slow),
        pytest.param({}, {"freeze_backbone": True}, 4, marks=pytest.mark.eight_devices),
        pytest.param({"locate": "none"}, {}, 1, marks=pytest.mark.slow),
        pytest.param({"fuse": False, "locate": "transformer"}, {}, 1, marks=pytest.mark.slow),
        pytest.param(
            {"locate": "word_filter", "rounds": 2, "segment": False},
            {},
            2,
            marks=pytest.mark.eight_devices,
        ),
    ],
    ids=str,
)
def test_encoding_an_image_once_equals_repeating_it(parts, options, devices):
    batch = make_batch(16)
    batch["truth4"][3:9, 2:7] = 1  # different masks for sentences about one image
    batch["truth8"] = batch["truth4"][:, ::2, ::2]
    images = batch["image"][:8]
    every = batch | {"image": np.repeat(images, 2, axis=0)}
    if options.get("accumulate") == 2:  # put both copies of an image into the same microbatch
        order = np.arange(16).reshape(4, 2, 2).transpose(0, 2, 1).reshape(-1)
        every = {name: value[order] for name, value in every.items()}
    mesh = make_mesh(jax.devices()[:devices])
    # In float32, rounding may change single gradients by more than a wrong formula would.
    with jax.enable_x64(True), mock.patch.object(jnp, "float32", jnp.float64):
        model = LTS(vocab_size=9, **(TINY | SHALLOW | parts), dtype=jnp.float64)
        step = compile_train_step(StepSettings(model, OPTIMIZER, 0.1, mesh, **options))

        def train(batch):
            shapes = jax.eval_shape(lambda: train_state.init_state(model, OPTIMIZER, 0, 64, 5))
            state = draw_state(shapes)
            state = jax.tree.map(lambda x: x.astype(float) if x.dtype == np.float32 else x, state)
            state = jax.device_put(state, replicated(mesh))
            return step(state, put_batch(batch, mesh))

        once, losses = train(batch | {"image": images})
        repeated, expected = train(every)
    assert once.params["fusion"]["up8"]["conv"]["kernel"].dtype == np.float64
    for name in expected:
        np.testing.assert_allclose(losses[name], expected[name], rtol=1e-9, err_msg=name)
    moments = [s.opt_state[0].mu for s in (once, repeated)]  # Adam's first moments
    least = 1e-12 * float(expected["gradient_norm"])
    for trees in ((once.batch_stats, repeated.batch_stats), moments):
        ours, theirs = map(jax.tree.leaves_with_path, trees)
        for (path, x), (_, y) in zip(ours, theirs, strict=True):
            # Zero gradients, of frozen parts and key biases, may differ by rounding.
            error = np.linalg.norm(np.subtract(x, y))
            assert error < 1e-8 * np.linalg.norm(y) + least, jax.tree_util.keystr(path)


@pytest.mark.eight_devices
def test_images_and_their_sentences_are_on_one_device():
    """Repeating an image needs no communication; gradients and statistics are all-reduced."""
    state = jax.eval_shape(lambda: train_state.init_state(MODEL, OPTIMIZER, 0, 64, 5))
    step = compile_train_step(StepSettings(MODEL, OPTIMIZER, 0.1, make_mesh(), accumulate=2))
    batch = make_batch(32) | {"image": make_batch(16)["image"]}
    program = step.lower(state, batch).compile().as_text()
    assert "all-reduce" in program
    for operation in ("all-gather", "all-to-all", "collective-permute"):
        assert operation not in program
