"""Small training states and other contents of a checkpoint."""

import grain
import jax.numpy as jnp
import numpy as np

from lts_jax.state.train_state import TrainState

RUN = {"config": {"seed": 3}, "data": {"images": 2}, "weights": {}}


def make_state(step):
    value = jnp.full((3,), float(step))
    return TrainState(jnp.int32(step), {"w": value}, {"mean": value + 1}, (value + 2,))


def make_iterator():
    return iter(grain.MapDataset.range(100).to_iter_dataset())


def restore(checkpoints, step):
    checkpoints.read_run(step)
    checkpoints.restore_iterator(step, make_iterator())
    return int(checkpoints.restore_state(step, make_state(0)).step)


def large_state(step):
    noise = np.random.default_rng(step).standard_normal(700_000).astype(np.float32)
    return make_state(step).replace(params={"w": jnp.asarray(noise)})  # 2.8 MB
