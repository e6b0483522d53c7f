import grain
import jax.numpy as jnp
import pytest

from lts_jax.checkpointing import Checkpoints
from lts_jax.steps import TrainState


def make_state(step):
    value = jnp.full((3,), float(step))
    return TrainState(jnp.int32(step), {"w": value}, {"mean": value + 1}, (value + 2,))


def make_iterator():
    return iter(grain.MapDataset.range(100).to_iter_dataset())


@pytest.fixture
def saved(tmp_path):
    """Five checkpoints, the second of them the best."""
    checkpoints = Checkpoints(tmp_path)
    iterator = make_iterator()
    for step, oiou in enumerate([0.1, 0.9, 0.3, 0.2, 0.5], start=1):
        next(iterator)
        checkpoints.save(step, make_state(step), iterator, {"seed": 3}, ["a"], {"oiou": oiou})
    checkpoints.close()
    return tmp_path


def test_latest_and_best_are_kept(saved):
    names = sorted(path.name for path in (saved / "checkpoints").iterdir())
    assert names == ["2", "5"]
    checkpoints = Checkpoints(saved)
    assert (checkpoints.latest_step, checkpoints.best_step) == (5, 2)


def test_everything_comes_back(saved):
    checkpoints = Checkpoints(saved)
    restored = checkpoints.restore_state(5, make_state(0))
    assert int(restored.step) == 5
    assert restored.params["w"].tolist() == [5.0] * 3
    assert restored.batch_stats["mean"].tolist() == [6.0] * 3
    assert checkpoints.read_config(5) == ({"seed": 3}, ["a"])
    iterator = make_iterator()
    checkpoints.restore_iterator(5, iterator)
    assert next(iterator) == 5


def test_an_empty_workdir_has_none(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step is None and checkpoints.best_step is None
