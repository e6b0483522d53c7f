"""PointRend: selection of points, and predictions at points."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.config.validation import check_config
from lts_jax.errors import ConfigError
from lts_jax.models import LTS, Outputs
from lts_jax.models.losses import point_loss, total_loss
from lts_jax.models.pointrend import (
    PointRend,
    Points,
    cell_centers,
    double,
    most_uncertain,
    sample_points,
)
from lts_jax.state.train_state import variables_of
from tests.lts_jax.helpers.made_split import make_model
from tests.lts_jax.helpers.tiny import TINY

RNG = np.random.default_rng(0)
MASK = RNG.normal(0, 3, (4, 8, 8)).astype(np.float32)
FEATURES = RNG.normal(0, 1, (4, 4, 4, 6)).astype(np.float32)
DETAIL = RNG.normal(0, 1, (2, 16, 16, 32)).astype(np.float32)  # two images with two sentences each


@pytest.mark.parametrize("shape", [(4, 7, 5, 3), (2, 7, 5, 3), (4, 1, 6, 2)])
def test_sampling_equals_torch(shape):
    torch = pytest.importorskip("torch", reason="torch is the oracle of sampling")
    maps = RNG.normal(0, 1, shape).astype(np.float32)
    places = RNG.random((4, 30, 2)).astype(np.float32)
    places[:, :4] = [[0, 0], [1, 1], [0, 1], [0.5, 0.999]]
    theirs = torch.nn.functional.grid_sample(
        torch.tensor(np.repeat(maps, 4 // shape[0], axis=0)).permute(0, 3, 1, 2),
        torch.tensor(2 * places - 1)[:, :, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    expected = theirs[..., 0].permute(0, 2, 1).numpy()
    np.testing.assert_allclose(sample_points(maps, places), expected, atol=2e-5)


def test_doubling_equals_torch_and_sampling():
    torch = pytest.importorskip("torch", reason="torch is the oracle of doubling")
    maps = RNG.normal(0, 1, (2, 5, 7)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(maps)[:, None], scale_factor=2, mode="bilinear", align_corners=False
    )
    doubled = double(maps)
    np.testing.assert_allclose(doubled, theirs[:, 0], atol=1e-5)
    centres = cell_centers(jnp.broadcast_to(jnp.arange(140), (2, 140)), 10, 14)
    sampled = sample_points(maps[..., None], centres)[..., 0]
    np.testing.assert_allclose(sampled, doubled.reshape(2, 140), atol=1e-5)


def test_most_uncertain_logits_are_closest_to_zero():
    logits = np.array([[3, -0.1, 2, 0.2, -5.0], [9, 8, -7, 6, 5]], np.float32)
    assert np.sort(most_uncertain(logits, 2)).tolist() == [[1, 3], [3, 4]]


@functools.cache
def make_head(points):
    head = PointRend(features=7, points=points)
    image = jnp.asarray(RNG.random((2, 32, 32, 3)), jnp.float32)

    def both(head, image, *args):
        head.of_image(image, train=False)
        return head(*args)

    init = jax.jit(functools.partial(head.init, method=both))
    variables = init(jax.random.key(0), image, MASK, FEATURES, DETAIL)
    loud = jax.tree.map(lambda x: x + 0.3 * RNG.normal(size=x.shape), variables["params"])
    return head, {**variables, "params": loud}


@functools.partial(jax.jit, static_argnums=(0,), static_argnames=("method",))
def apply(head, variables, *args, method="__call__"):
    return head.apply(variables, *args, method=method)


def test_with_all_points_every_pixel_is_predicted_by_the_head():
    head, variables = make_head(32 * 32)
    refined = apply(head, variables, MASK, FEATURES, DETAIL)
    assert refined.shape == (4, 32, 32) and refined.dtype == jnp.float32
    everywhere = cell_centers(jnp.broadcast_to(jnp.arange(1024), (4, 1024)), 32, 32)
    dense = apply(head, variables, MASK, FEATURES, DETAIL, everywhere, method="head")
    np.testing.assert_allclose(refined.reshape(4, -1), dense, atol=1e-5)
    assert np.std(dense) > 0.1


def test_with_few_points_the_rest_is_the_upsampled_mask():
    head, variables = make_head(20)
    refined = np.asarray(apply(head, variables, MASK, FEATURES, DETAIL))
    once = double(MASK)
    chosen = np.asarray(most_uncertain(once.reshape(4, -1), 20))
    places = cell_centers(chosen, 16, 16)
    logits = apply(head, variables, MASK, FEATURES, DETAIL, places, method="head")
    flat = np.array(once.reshape(4, -1))
    for row, where, new in zip(flat, chosen, np.asarray(logits), strict=True):
        row[where] = new
    twice = np.asarray(double(flat.reshape(4, 16, 16)))
    assert ((refined != twice).sum(axis=(1, 2)) <= 20).all()
    changed = np.abs(twice[refined != twice])
    assert changed.max() <= np.abs(twice[refined == twice]).max()


def test_training_points_are_where_the_mask_is_uncertain():
    head, variables = make_head(400)
    mask = np.full((4, 8, 8), 9.0, np.float32)
    mask[:, :, :4] = -9  # an edge in the middle
    points = apply(
        head, variables, mask, FEATURES, DETAIL, jax.random.key(1), method="train_points"
    )
    assert points.logits.shape == (4, 100) and points.places.shape == (4, 100, 2)
    distance = np.abs(np.asarray(points.places)[..., 0] - 0.5)
    # An eighth of the 300 candidates are uncertain. The 75 most uncertain ones are sorted.
    assert (distance[:, :25] < 1 / 16).all() and (distance[:, 75:] > 1 / 4).mean() > 0.3
    again, other = (
        apply(head, variables, mask, FEATURES, DETAIL, jax.random.key(k), method="train_points")
        for k in (1, 2)
    )
    np.testing.assert_array_equal(again.places, points.places)
    assert (np.asarray(other.places) != points.places).any()


def test_point_loss_uses_the_truth_at_the_points():
    truth = np.zeros((2, 8, 8), np.float32)
    truth[:, :, 4:] = 1
    places = np.full((2, 3, 2), 0.5, np.float32)
    places[..., 0] = [0.1, 0.9, 0.5]  # outside, inside, on the edge
    logits = np.array([[-30.0, 30.0, 0.0]] * 2, np.float32)
    assert point_loss(Points(logits, places), truth) == pytest.approx(np.log(2) / 3, abs=1e-6)
    truth4, truth8 = truth[:, ::4, ::4], truth[:, ::8, ::8]
    outputs = Outputs(None, np.zeros((2, 2, 2), np.float32), points=Points(logits, places))
    loss, parts = total_loss(outputs, truth4, truth8, 0.0, truth1=truth)
    assert parts["point_loss"] == pytest.approx(4 * np.log(2) / 3, abs=1e-6)
    assert loss == parts["segmentation_loss"] + parts["point_loss"]


@pytest.mark.slow
def test_prepared_images_are_refined_identically():
    model, state = make_model(refine="pointrend", refine_points=64)
    image = RNG.random((2, 64, 64, 3)).astype(np.float32)
    tokens, lengths = RNG.integers(2, 9, (4, 6)), np.array([6, 2, 3, 1])

    def prepared(model, image, tokens, lengths):
        features = model.prepare(model.encode_image(image, train=False))
        features = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), features)
        return model.refer(features, model.encode_text(tokens, lengths), train=False)

    args = (variables_of(state), image, tokens, lengths)
    expected = model.apply(*args, train=False)
    assert (
        expected.mask.shape == (4, 64, 64) and expected.points is None and expected.finite().all()
    )
    np.testing.assert_allclose(
        model.apply(*args, method=prepared).mask, expected.mask, rtol=1e-3, atol=1e-3
    )
    plain = LTS(vocab_size=model.vocab_size, **TINY).apply(
        {k: {n: x for n, x in v.items() if n != "pointrend"} for k, v in args[0].items()},
        *args[1:],
        train=False,
    )
    assert (np.asarray(expected.mask) != double(double(plain.mask))).any()


def test_it_requires_a_segmenter_and_images(tiny_config_factory):
    config = tiny_config_factory()
    config.model.refine = "pointrend"
    check_config(config)
    config.train.freeze, config.train.cache_features = "backbone", "float32"
    with pytest.raises(ConfigError, match=r"cache_features=float32 with model\.refine=pointrend"):
        check_config(config)
    config.train.cache_features, config.model.segment = "none", False
    with pytest.raises(ConfigError, match=r"model\.refine=pointrend with model\.segment=False"):
        check_config(config)
