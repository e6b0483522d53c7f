import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.models import Outputs
from lts_jax.steps.losses import location_loss, segmentation_loss, total_loss
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


def test_without_a_segmenter_the_mask_is_held_against_the_coarse_truth():
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


def test_sure_predictions_stay_finite():
    logits = jnp.full((1, 4, 4), 1e4)
    assert segmentation_loss(logits, np.ones((1, 4, 4))) == 0
    assert segmentation_loss(logits, np.zeros((1, 4, 4))) == 16e4


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        segmentation_loss(MASK, TRUTH4[:1])
    with pytest.raises(ValueError, match="one shape"):
        location_loss(HEATMAP, TRUTH4)
