import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.models import Outputs
from lts_jax.models.losses import (
    dice_loss,
    location_choice_loss,
    location_loss,
    segmentation_loss,
    total_loss,
)
from tests.lts_jax.helpers.oracles import relative_error

RNG = np.random.default_rng(0)
MASK = RNG.normal(0, 3, (3, 8, 8)).astype(np.float32)
TRUTH4 = RNG.integers(0, 2, (3, 8, 8)).astype(np.uint8)
HEATMAP = RNG.normal(0, 3, (3, 2, 4, 4)).astype(np.float32)
TRUTH8 = RNG.integers(0, 2, (3, 4, 4)).astype(np.uint8)


def cross_entropy(logits, truth):
    """Eq. 11 with its minus sign, in float64."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(truth * np.log(p) + (1 - truth) * np.log(1 - p))


def test_equations_11_to_13():
    seg = cross_entropy(MASK, TRUTH4).sum() / 3
    loc = sum(cross_entropy(HEATMAP[:, i], TRUTH8).sum() / 3 for i in range(2)) / 2
    loss, parts = total_loss(Outputs(HEATMAP, MASK), TRUTH4, TRUTH8, 0.1)
    assert relative_error(parts["segmentation_loss"], seg) < 1e-6
    assert relative_error(parts["location_loss"], loc) < 1e-6
    assert relative_error(loss, seg + 0.1 * loc) < 1e-6
    assert parts["loss"] == loss


def test_without_a_segmenter_the_mask_is_compared_with_the_coarse_truth():
    mask = HEATMAP[:, 1]
    seg = cross_entropy(mask, TRUTH8).sum() / 3
    loss, parts = total_loss(Outputs(HEATMAP, mask), TRUTH4, TRUTH8, 0.0)
    assert relative_error(loss, seg) < 1e-6
    assert relative_error(parts["segmentation_loss"], seg) < 1e-6


def test_without_a_locator_there_is_no_location_loss():
    loss, parts = total_loss(Outputs(None, MASK), TRUTH4, TRUTH8, 0.1)
    assert sorted(parts) == ["loss", "segmentation_loss"]
    assert loss == parts["segmentation_loss"]


def test_equals_torch():
    torch = pytest.importorskip("torch", reason="torch is the oracle of the loss")
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(MASK), torch.tensor(TRUTH4, dtype=torch.float32), reduction="sum"
    )
    assert relative_error(segmentation_loss(MASK, TRUTH4), theirs.numpy() / 3) < 1e-6


def test_confident_predictions_have_a_finite_loss():
    logits = jnp.full((1, 4, 4), 1e4)
    assert segmentation_loss(logits, np.ones((1, 4, 4))) == 0
    assert segmentation_loss(logits, np.zeros((1, 4, 4))) == 16e4


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        segmentation_loss(MASK, TRUTH4[:1])
    with pytest.raises(ValueError, match="same shape"):
        location_loss(HEATMAP, TRUTH4)


def test_dice_is_added_to_both():
    def dice(logits, truth):
        p = 1 / (1 + np.exp(-logits.astype(np.float64)))
        both, total = (p * truth).sum((-2, -1)), p.sum((-2, -1)) + truth.sum((-2, -1))
        return (1 - (2 * both + 1) / (total + 1)).mean()

    plain, _ = total_loss(Outputs(HEATMAP, MASK), TRUTH4, TRUTH8, 0.5)
    loss, parts = total_loss(Outputs(HEATMAP, MASK), TRUTH4, TRUTH8, 0.5, 0.3)
    mask, heatmap = 64 * dice(MASK, TRUTH4), 16 * dice(HEATMAP, TRUTH8[:, None])
    assert relative_error(parts["dice_loss"], mask) < 1e-6
    assert relative_error(parts["location_dice_loss"], heatmap) < 1e-6
    assert relative_error(loss - plain, 0.3 * mask + 0.5 * 0.3 * heatmap) < 1e-5
    alone = total_loss(Outputs(None, MASK), TRUTH4, TRUTH8, 0.5, 0.3)[1]
    assert sorted(alone) == ["dice_loss", "loss", "segmentation_loss"]


def test_a_correct_mask_of_any_size_has_no_dice_loss():
    for side in (0, 1, 4):
        truth = np.zeros((1, 8, 8))
        truth[:, :side, :side] = 1
        assert dice_loss(jnp.asarray(np.where(truth, 50.0, -50.0)), truth) < 1e-4
        assert dice_loss(jnp.asarray(np.where(truth, -50.0, 50.0)), truth) > 0.9 * 64


def test_location_choice_loss_equals_torch():
    torch = pytest.importorskip("torch", reason="torch is the oracle of the loss")
    logits = torch.tensor(HEATMAP).reshape(3, 2, 16)
    truth = torch.tensor(TRUTH8, dtype=torch.float32).reshape(3, 16)
    share = truth / truth.sum(1, keepdim=True)
    expected = sum(
        truth[i].sum() * torch.nn.functional.cross_entropy(logits[i, r], share[i])
        for i in range(3)
        for r in range(2)
    )
    ours = location_choice_loss(HEATMAP, jnp.asarray(TRUTH8, jnp.float32))
    assert relative_error(ours, expected.numpy() / 6) < 1e-6
    total, parts = total_loss(Outputs(HEATMAP, MASK), TRUTH4, TRUTH8, 0.1, location="softmax")
    assert parts["location_loss"] == ours
    assert relative_error(total, parts["segmentation_loss"] + 0.1 * ours) < 1e-6


def test_location_choice_loss_is_shift_invariant_and_zero_for_empty_masks():
    truth = np.zeros((2, 4, 4), np.float32)
    truth[0, 1, 1:3] = 1
    sure = jnp.asarray(np.where(truth, 40.0, 0.0))[:, None]
    assert abs(location_choice_loss(sure, truth) - np.log(2)) < 1e-5  # mean of 2 log(2) and 0
    assert location_choice_loss(sure - 100, truth) == pytest.approx(np.log(2), abs=1e-5)
    with pytest.raises(ValueError, match="same shape"):
        location_choice_loss(HEATMAP, TRUTH4)
