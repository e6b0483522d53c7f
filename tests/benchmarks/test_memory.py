import pytest

from benchmarks import memory
from lts_jax.config.flags import load_config

SMALL = "configs/shapes.py"


@pytest.mark.slow
def test_what_an_example_keeps(repo_root, monkeypatch):
    """bfloat16, rematerialization and shared images reduce activations, but not the state."""
    monkeypatch.chdir(repo_root)
    kept = {name: memory.kept(load_config(SMALL), *kind) for name, kind in memory.KINDS.items()}
    assert len({of["state"] for of in kept.values()}) == 1
    plain, remat, shared, half, half_remat, half_shared = (of["example"] for of in kept.values())
    assert half_remat < min(half, remat) and max(half, remat) < plain
    assert half_shared < min(half, shared) and shared < 0.6 * plain
    assert half == pytest.approx(plain / 2, rel=0.1)


def test_largest_batch():
    of = {"state": 512.0, "example": 100.0}
    assert memory.largest_batch(of, 10) == int((0.85 * 10240 - 512) / 100) == 81
    assert memory.largest_batch(of, 0.5) == 0
