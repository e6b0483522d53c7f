"""Fixtures shared by all tests."""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

# Must run before JAX starts, and once: pytest-xdist workers inherit the variables.
if "LTS_TEST_SETUP" not in os.environ:
    os.environ["LTS_TEST_SETUP"] = "done"
    # These settings reduce compilation, which takes most of the time, by two thirds.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_use_fusion_emitters=false".strip()
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    # Many tests compile the same small programs; LTS_TEST_CACHE keeps them between pytest runs.
    _CACHE = tempfile.TemporaryDirectory(prefix="xla-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("LTS_TEST_CACHE") or _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

_MEMORY = 3 * 2**29
"""Memory in bytes above which a worker drops its compiled programs."""
ROOT = Path(__file__).parent.parent


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests that require more devices than available."""
    if item.get_closest_marker("eight_devices"):
        import jax

        if jax.device_count() < 8:
            pytest.skip("set XLA_FLAGS=--xla_force_host_platform_device_count=8")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real test data; skips the test if it does not exist."""
    folder = (ROOT / (os.environ.get("LTS_TEST_DATA") or "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no test data in {folder}; set LTS_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def mini_refcoco(test_data: Path) -> Path:
    """Raw RefCOCO files of 12 images: 33 refs and 96 sentences in val, testA and testB."""
    folder = test_data / "mini_refcoco"
    if not folder.is_dir():
        pytest.skip(f"no mini_refcoco in {test_data}")
    return folder


@pytest.fixture(scope="module", autouse=True)
def compiled_programs() -> Iterator[None]:
    """Drops the compiled programs if a worker uses too much memory."""
    yield
    if "jax" in sys.modules and psutil.Process().memory_info().rss > _MEMORY:
        sys.modules["jax"].clear_caches()
        gc.collect()
