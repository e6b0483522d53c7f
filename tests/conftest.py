"""Fixtures shared by all tests."""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

# Before JAX starts, and once: the workers of pytest-xdist inherit what the first process sets.
if "LTS_TEST_SETUP" not in os.environ:
    os.environ["LTS_TEST_SETUP"] = "done"
    # Compiling takes most of the time: two thirds of it are saved, and every bound still holds.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_use_fusion_emitters=false".strip()
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    # The same small programs are compiled in many tests, and in both tiers: LTS_TEST_CACHE keeps
    # them from one run of pytest to the next.
    _CACHE = tempfile.TemporaryDirectory(prefix="xla-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("LTS_TEST_CACHE") or _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

_MEMORY = 3 * 2**29
"""Bytes from which a worker drops what it has compiled."""
ROOT = Path(__file__).parent.parent


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what needs more devices than there are."""
    if item.get_closest_marker("eight_devices"):
        import jax

        if jax.device_count() < 8:
            pytest.skip("set XLA_FLAGS=--xla_force_host_platform_device_count=8")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root of the repository, where `python -m tfds_refcoco` can be run."""
    return ROOT


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data for tests; the test is skipped where it is absent."""
    folder = (ROOT / (os.environ.get("LTS_TEST_DATA") or "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; name its folder in LTS_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def mini_refcoco(test_data: Path) -> Path:
    """Raw RefCOCO files of 12 images: 33 refs, 96 sentences in val, testA and testB."""
    folder = test_data / "mini_refcoco"
    if not folder.is_dir():
        pytest.skip(f"no mini_refcoco in {test_data}")
    return folder


@pytest.fixture(scope="module", autouse=True)
def compiled_programs() -> Iterator[None]:
    """Drops the compiled programs where they begin to fill a worker's memory."""
    yield
    if "jax" in sys.modules and psutil.Process().memory_info().rss > _MEMORY:
        sys.modules["jax"].clear_caches()
        gc.collect()
