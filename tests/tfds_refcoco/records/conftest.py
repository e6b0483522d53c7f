"""Fixture: an open dataset."""

import pytest

import tfds_refcoco


@pytest.fixture
def built(write_raw, tmp_path):
    tfds_refcoco.build("refcoco_unc", tmp_path / "out", write_raw(), progress=False)
    return tfds_refcoco.open_dataset(tmp_path / "out", "refcoco_unc")
