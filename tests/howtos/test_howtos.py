"""The how-tos of docs/architecture.md: each change applies, is small, and passes its tests."""

import os
import re
import subprocess
import sys

import pytest

from tests.copied import copy_repository

HOWTOS = {
    "backbone": ["tests/lts_jax/models/backbones/test_backbones.py", "-k", "plain"],
    "locator": ["tests/lts_jax/models/test_cosine_locator.py"],
    "dataset": ["tests/tfds_refcoco/raw/test_myref.py"],
    "metric": ["tests/lts_jax/evaluation/test_dice.py"],
}
MOST_LINES = 60


@pytest.mark.parametrize("name", HOWTOS)
def test_the_page_names_every_file_of_the_change(name, repo_root):
    page = (repo_root / "docs/architecture.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### Add a {name}\n(.*?)(?=^##)", page + "\n##", re.M | re.S)
    patch = (repo_root / f"tests/howtos/{name}.patch").read_text(encoding="utf-8")
    files = re.findall(r"^\+\+\+ b/(\S+)", patch, re.MULTILINE)
    for file in files:
        assert f"`{file.replace('configs/default', 'lts_jax/configs/default')}`" in section, file
    changed = re.findall(r"^[+-](?![+-]{2} )", patch, re.MULTILINE)
    assert len(files) <= 4 and len(changed) < MOST_LINES


@pytest.mark.slow
@pytest.mark.parametrize("name", HOWTOS)
def test_the_change_applies_and_passes_its_tests(name, repo_root, test_data, tmp_path):
    copy_repository(repo_root, tmp_path)
    patch = repo_root / f"tests/howtos/{name}.patch"
    subprocess.run(["git", "apply", patch], cwd=tmp_path, check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "LTS_TEST_DATA": str(test_data)}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider"]
    tested = subprocess.run(
        [*command, *HOWTOS[name]], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert tested.returncode == 0, tested.stdout[-3000:]
