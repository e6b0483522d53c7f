"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root of the repository, where `python -m tfds_refcoco` can be run."""
    return ROOT


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data for tests; the test is skipped where it is absent."""
    folder = (ROOT / os.environ.get("LTS_TEST_DATA", "../shared/data")).resolve()
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
