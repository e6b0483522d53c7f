import time

import jax
import jax.numpy as jnp
import pytest

import tfds_refcoco
from benchmarks import idle
from tests.lts_jax.helpers.tiny import TINY
from tfds_refcoco.shapes import generate


def test_share_of_intervals():
    assert idle.busy_share([(0, 4), (1, 2), (6, 10)]) == pytest.approx(0.8)
    assert idle.busy_share([(5, 6)]) == 1


def test_a_pause_is_seen(tmp_path):
    """A device that works, waits five times as long, and works again is mostly idle."""
    product = jax.jit(lambda x: jax.lax.fori_loop(0, 40, lambda _, y: jnp.tanh(y @ x), x))
    x = jnp.ones((512, 512))
    product(x).block_until_ready()
    with jax.profiler.trace(tmp_path):
        start = time.perf_counter()
        product(x).block_until_ready()
        worked = time.perf_counter() - start
        time.sleep(5 * worked)
        product(x).block_until_ready()
    (spans,) = idle.device_intervals(tmp_path).values()
    assert 0.4 < 1 - idle.busy_share(spans) < 0.95


def test_time_counts_from_the_mark(tmp_path):
    """The same pause does not count before the mark."""
    product = jax.jit(lambda x: jax.lax.fori_loop(0, 40, lambda _, y: jnp.tanh(y @ x), x))
    x = jnp.ones((512, 512))
    product(x).block_until_ready()
    with jax.profiler.trace(tmp_path):
        product(x).block_until_ready()
        time.sleep(0.5)
        running = product(x)
        with jax.profiler.TraceAnnotation(idle._MARK):
            pass
        running.block_until_ready()
    (spans,) = idle.device_intervals(tmp_path).values()
    assert 1 - idle.busy_share(spans) < 0.1


@pytest.mark.slow
def test_a_training_is_traced_and_stopped(tmp_path, capsys, monkeypatch, repo_root):
    """The training loop runs and stops after the traced steps."""
    monkeypatch.chdir(repo_root)
    scenes = {"train": 8, "val": 1, "testA": 1, "testB": 1}
    generate(tmp_path / "raw", scenes=scenes, progress=False)
    tfds_refcoco.build("shapes", tmp_path, tmp_path / "raw", progress=False)
    fields = {f"model.{name}": value for name, value in TINY.items()}
    fields |= {"data.dir": tmp_path, "data.image_size": 64, "train.batch_size": 8}
    fields["train.sentences_per_image"] = 1
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    result = idle.measure("configs/shapes.py", overrides, first=2, steps=3)
    (share,) = result["idle_share"].values()
    assert 0 <= share < 1
    with pytest.raises(SystemExit, match="before step 1004"):
        short = ["--config.train.epochs=0.1", "--config.train.drop_epochs=()"]
        idle.measure("configs/shapes.py", overrides + short, first=2, steps=1000)
