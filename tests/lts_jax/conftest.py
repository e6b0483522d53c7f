import os
import tempfile

# Before JAX starts: a mesh of eight devices that a CPU can pretend to have.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()

# Compiling takes most of the time of these tests: half of it is saved, and every bound still holds.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# The same small programs are compiled in many tests.
_CACHE = tempfile.TemporaryDirectory(prefix="xla-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ml_collections import ConfigDict

import tfds_refcoco
from configs import shapes
from tfds_refcoco.reader import Dataset
from tfds_refcoco.shapes import generate

from tiny import TINY

if TYPE_CHECKING:
    from fake_runs import FakeRuns


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a small `shapes`, built through the real builder."""
    folder = tmp_path_factory.mktemp("data")
    raw = folder / "raw"
    scenes = {"train": 24, "val": 6, "testA": 4, "testB": 3}
    generate(raw, scenes=scenes, progress=False)
    tfds_refcoco.build("shapes", folder, raw, progress=False)
    return folder


@pytest.fixture(scope="session")
def shapes_data(shapes_dir: Path) -> Dataset:
    """The same, opened."""
    return tfds_refcoco.open_dataset(shapes_dir, "shapes")


@pytest.fixture(scope="session")
def tiny_config_factory(shapes_dir: Path) -> Callable[[], ConfigDict]:
    """Makes configs/shapes.py over the small set, with a tiny network and a few steps of 8."""

    def make() -> ConfigDict:
        config = shapes.get_config()
        config.data.dir = str(shapes_dir)
        config.data.image_size = 64
        config.model.update(TINY)
        config.train.batch_size = 8
        config.train.epochs = 0.6
        config.train.drop_epochs = (0.45,)
        config.train.log_every = 1
        config.eval.every_epochs = 0.15
        config.eval.batch_size = 16
        config.eval.gallery = 2
        return config

    return make


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, repo_root: Path) -> "FakeRuns":
    """Takes the place of the processes that the tables' command starts."""
    from lts_jax import runs

    from fake_runs import FakeRuns  # late: it defines the command's flags

    monkeypatch.chdir(repo_root)
    fake = FakeRuns()
    monkeypatch.setattr(runs.Children, "call", lambda _, command, log: fake.call(command, log))
    return fake
