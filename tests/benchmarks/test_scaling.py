from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import scaling
from lts_jax.distributed.mesh import BATCH, make_mesh


@pytest.mark.eight_devices
def test_bytes_of_a_compiled_program():
    """Counts two arrays that are summed over the devices, and nothing else."""
    mesh = make_mesh(jax.devices()[:8])

    @jax.jit
    def sums(x, y):
        return jnp.sin(x).sum(axis=0), (y @ y.swapaxes(1, 2)).sum(axis=0), x + 1

    split = jax.sharding.NamedSharding(mesh, BATCH)
    x = jax.device_put(np.ones((16, 128), np.float32), split)
    y = jax.device_put(np.ones((8, 4, 6), np.float32), split)
    program = sums.lower(x, y).compile().as_text()
    assert scaling.reduced_bytes(program) == 4 * (128 + 4 * 4)


def test_tuples_and_other_kinds():
    program = """
      %sum = (bf16[3,5]{1,0}, /*index=1*/f32[7]{0}) all-reduce(%a, %b), replica_groups={}
      %part = f32[3] get-tuple-element(%all-reduce.1), index=0
      %more = f32[] all-reduce-start(%c)
    """
    assert scaling.reduced_bytes(program) == 2 * 15 + 4 * 7 + 4


def test_a_ring():
    """One device sends nothing, two send half of the bytes twice, many all bytes twice."""
    fields = {"batch": 10, "rate": 100.0, "reduced": 1000, "bandwidth": 1e3}
    result = {n: scaling.step_seconds(n, **fields) for n in (1, 2, 10**6)}
    assert result[1] == (0.1, 0)
    assert result[2] == (0.1, 1.0)
    assert result[10**6] == pytest.approx((0.1, 2.0), rel=1e-5)
    rows = scaling.model_rows(**fields)
    assert rows[0]["efficiency"] == rows[0]["efficiency_overlapped"] == 1
    assert all(a["efficiency"] > b["efficiency"] for a, b in pairwise(rows))


@pytest.mark.eight_devices
def test_gradients_are_what_a_step_sums():
    """XLA's program for eight devices: the remaining bytes are BatchNorm's sums."""
    stages = "--config.model.backbone_stages=(1,0,0,0,0)"
    result = scaling.traffic("configs/shapes.py", [stages, "--config.data.image_size=64"])
    assert result["gradients"] < result["reduced"] < 1.02 * result["gradients"]
