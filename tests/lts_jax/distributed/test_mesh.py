import jax
import jax.numpy as jnp
import pytest

from lts_jax.distributed import processes
from lts_jax.distributed.mesh import check_batch_size, make_mesh, over_shards
from lts_jax.errors import ConfigError
from lts_jax.io.files import only_run_in

pytestmark = pytest.mark.eight_devices


def test_a_batch_must_divide_over_devices_and_parts():
    mesh = make_mesh(jax.devices()[:4])
    with pytest.raises(
        ConfigError,
        match=r"train\.batch_size=18 .* 4 devices × train\.accumulate=3: set 12 or 24",
    ):
        check_batch_size("train.batch_size", 18, mesh, 3)
    check_batch_size("train.batch_size", 24, mesh, 3)
    with pytest.raises(
        ConfigError, match=r"4 devices × train\.sentences_per_image=5: set 20 or 40"
    ):
        check_batch_size("train.batch_size", 24, mesh, per_image=5)


def test_shards_must_divide_the_devices():
    with pytest.raises(
        ConfigError, match=r"shard_params=3 does not divide 8 devices: set one of 1, 2, 4, 8"
    ):
        make_mesh(shards=3)


def test_sharding_of_arrays():
    mesh = make_mesh(shards=4)
    assert dict(mesh.shape) == {"data": 2, "shard": 4}
    shapes = {
        "longest": (3, 3, 64, 128),
        "not the longest": (3, 124, 129),
        "neither": (129, 129),
        "small": (64, 128),
        "scalar": (),
    }
    tree = {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in shapes.items()}
    specs = {k: tuple(v.spec) for k, v in over_shards(tree, mesh).items()}
    assert specs == {
        "longest": (None, None, None, "shard"),
        "not the longest": (None, "shard"),
        "neither": (),
        "small": (),
        "scalar": (),
    }
    assert all(x.is_fully_replicated for x in over_shards(tree, make_mesh()).values())


def test_an_error_of_the_first_process_is_an_error(tmp_path):
    def enter():
        with processes.in_first_process(only_run_in(tmp_path)):
            return "entered"

    with only_run_in(tmp_path), pytest.raises(ConfigError, match="another run"):
        enter()
    assert enter() == "entered"
