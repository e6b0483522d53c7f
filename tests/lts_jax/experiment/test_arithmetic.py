"""JAX settings that a notebook, a script or the environment may have changed."""

import json
from pathlib import Path

import jax
import pytest

from lts_jax.distributed.mesh import one_device
from lts_jax.errors import ConfigError
from lts_jax.experiment import arithmetic
from lts_jax.experiment.experiment import Experiment
from lts_jax.experiment.restore import restore

OTHERS = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 1,
    "jax_numpy_dtype_promotion": "strict",
}


@pytest.fixture
def other_settings():
    """Changes settings that JAX reads from variables such as JAX_ENABLE_X64."""
    for name, value in OTHERS.items():
        jax.config.update(name, value)
    yield
    for name, value in arithmetic.FIXED.items():
        jax.config.update(name, value)


def test_the_commands_fix_the_arithmetic(other_settings, capsys):
    arithmetic.fix()
    message = capsys.readouterr().err
    for name, value in OTHERS.items():
        assert f"WARNING: {name}={value} is ignored: lts_jax always uses " in message
    arithmetic.check()
    arithmetic.fix()
    assert not capsys.readouterr().err
    assert (1 + jax.numpy.float32(1)).dtype == "float32"
    assert jax.random.key_impl(jax.random.key(0)) == jax.random.key_impl(
        jax.random.key(0, impl="threefry2x32")
    )


def test_other_settings_are_refused_in_other_programs(other_settings, tiny_config_factory):
    for use in (
        lambda: restore(Path("absent"), one_device()),
        lambda: Experiment.from_config(tiny_config_factory()),
    ):
        with pytest.raises(ConfigError, match=r"jax_enable_x64=True.*does not support") as error:
            use()
        assert "jax.config.update('jax_enable_x64', False)" in str(error.value)


def test_recorded_settings_that_differ_are_logged(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x --xla_cpu_enable_fast_math=true")
    before = arithmetic.describe()
    assert before["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=true"
    (tmp_path / "run.json").write_text(json.dumps({"arithmetic": before}))
    arithmetic.warn_if_changed(tmp_path, arithmetic.describe())
    assert not capsys.readouterr().err
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_latency_hiding_scheduler=true")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    with jax.default_matmul_precision("bfloat16"):
        arithmetic.warn_if_changed(tmp_path, arithmetic.describe())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    name = "jax_default_matmul_precision"
    assert lines[0].startswith(f"WARNING: {tmp_path} was trained with {name}=None, ")
    assert "but this process uses bfloat16" in lines[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"arithmetic": 1}', "[" * 100_000])
def test_a_damaged_record_is_not_an_error_here(tmp_path, text, capsys):
    (tmp_path / "run.json").write_text(text)
    arithmetic.warn_if_changed(tmp_path, arithmetic.describe())
    arithmetic.warn_if_changed(tmp_path / "absent", arithmetic.describe())
    assert not capsys.readouterr().err
