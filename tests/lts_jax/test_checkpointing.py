import shutil

import grain
import jax.numpy as jnp
import pytest

from lts_jax.checkpointing import Checkpoints
from lts_jax.errors import ConfigError
from lts_jax.steps import TrainState

RUN = {"config": {"seed": 3}, "data": {"images": 2}, "weights": {}}


def make_state(step):
    value = jnp.full((3,), float(step))
    return TrainState(jnp.int32(step), {"w": value}, {"mean": value + 1}, (value + 2,))


def make_iterator():
    return iter(grain.MapDataset.range(100).to_iter_dataset())


@pytest.fixture
def saved(tmp_path):
    """Five checkpoints, the second of them the best."""
    iterator = make_iterator()
    with Checkpoints(tmp_path) as checkpoints:
        for step, oiou in enumerate([0.1, 0.9, 0.3, 0.2, 0.5], start=1):
            next(iterator)
            checkpoints.save(step, make_state(step), iterator, RUN, ["a"])
            checkpoints.score(step, {"oiou": oiou})
    return tmp_path


def test_the_latest_two_and_the_best_are_kept(saved):
    names = sorted(path.name for path in (saved / "checkpoints").iterdir())
    assert names == ["2", "4", "5"]
    checkpoints = Checkpoints(saved)
    assert (checkpoints.latest_step, checkpoints.best_step) == (5, 2)


def test_everything_comes_back(saved):
    checkpoints = Checkpoints(saved)
    restored = checkpoints.restore_state(5, make_state(0))
    assert int(restored.step) == 5
    assert restored.params["w"].tolist() == [5.0] * 3
    assert restored.batch_stats["mean"].tolist() == [6.0] * 3
    read = checkpoints.read_run(5)
    assert isinstance(read.pop("checksum"), int)
    assert read == {**RUN, "vocabulary": ["a"]}
    iterator = make_iterator()
    checkpoints.restore_iterator(5, iterator)
    assert next(iterator) == 5


def test_an_empty_workdir_has_none(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step is None and checkpoints.best_step is None


def test_a_damaged_checkpoint_is_named(saved):
    shutil.rmtree(saved / "checkpoints" / "5" / "state")
    with pytest.raises(ConfigError, match="checkpoint .*checkpoints/5 cannot be read"):
        Checkpoints(saved).restore_state(5, make_state(0))
