import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lts_jax.distributed.mesh import make_mesh
from lts_jax.errors import NonFiniteLossError
from lts_jax.state.fingerprint import fingerprint
from lts_jax.training.divergence import LossGuard


def losses(loss, norm=1.0):
    return {"loss": jnp.float32(loss), "gradient_norm": jnp.float32(norm)}


def guard(saved=None):
    return LossGuard(lambda step: [10 * step, 10 * step + 1], lambda: saved)


def test_the_newest_losses_are_returned():
    watched = guard()
    for step in range(1, 6):
        watched.add(step, losses(step))
    assert watched.check() == {"loss": 5.0, "gradient_norm": 1.0}
    assert watched.check() == {"loss": 5.0, "gradient_norm": 1.0}


@pytest.mark.parametrize(
    ("bad", "message"),
    [(losses(np.nan), "loss is nan"), (losses(1.0, np.inf), "gradient_norm is inf")],
)
def test_divergence_between_fetches_is_detected(bad, message):
    watched = guard(saved=2)
    for step in range(1, 8):
        watched.add(step, bad if step in (4, 6) else losses(1.0))
    with pytest.raises(NonFiniteLossError) as error:
        watched.check()
    assert f"{message} at step 4; the last good checkpoint is step 2" in str(error.value)
    assert str(error.value).endswith("sent_ids of the batch: 40 41")


def tree():
    rng = np.random.default_rng(0)
    return {
        "a": rng.standard_normal((8, 3)).astype(np.float32),
        "b": [rng.integers(-5, 5, 16).astype(np.int32), np.float32(2.5)],
        "c": np.array([True, False]),
    }


def test_checksum_follows_its_definition():
    expected = 0
    for i, x in enumerate(jax.tree.leaves(tree())):
        words = x.reshape(-1)
        words = words.view(np.uint32) if words.itemsize == 4 else words.astype(np.uint32)
        expected += (2 * i + 1) * sum((2 * j + 1) * int(w) for j, w in enumerate(words))
    finite, total, plausible = fingerprint(tree())
    assert bool(finite) and bool(plausible) and int(total) == expected % 2**32


def test_it_is_the_same_on_a_mesh_and_sees_any_bit():
    whole = int(fingerprint(tree())[1])
    mesh = make_mesh()
    split = tree()
    place = NamedSharding(mesh, PartitionSpec("data"))
    split["a"] = jax.device_put(split["a"], place)
    split["b"][0] = jax.device_put(split["b"][0], place)
    assert int(fingerprint(split)[1]) == whole
    for bit in (0, 13, 31):
        harmed = tree()
        harmed["a"].view(np.uint32)[5, 1] ^= np.uint32(1 << bit)
        assert int(fingerprint(harmed)[1]) != whole


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_seen(value):
    harmed = tree()
    harmed["a"][7, 2] = value
    assert not bool(fingerprint(harmed)[0])
