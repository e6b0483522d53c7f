"""Runs the README's commands in order, in a copy of the repository and a new environment."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import synthetic_raw
from tests.copied import copy_repository

# The same commands with less work: fewer steps, smaller networks, and no nested test run.
_LESS = "--config.train.epochs=0.02 --config.train.drop_epochs=0.01, --config.eval.splits=val"
_SMALL = (
    "--config.data.image_size=64 --config.model.backbone_width=4 "
    "--config.model.backbone_stages=1,1,1,1,1 --config.model.fused_features=16 "
    "--config.model.gru_features=8 --config.model.segmenter_features=8 "
    "--config.train.epochs=0.2 --config.train.drop_epochs=0.1, --config.eval.splits=val"
)
SHORTER = {
    r"(lts_jax\.main --config configs/shapes\.py)": rf"\1 {_LESS}",
    r"(lts_jax\.main --config configs/refcoco\.py .*)": rf"\1 {_SMALL}",
    r"pytest -n 2": "pytest -n 0 --collect-only -q",
}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_command_works(repo_root, test_data, tmp_path):
    readme = (repo_root / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(sh|python)\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 5
    clone = copy_repository(repo_root, tmp_path / "clone")
    photos, expressions = test_data / "coco_photos", test_data / "refcoco_unc"
    synthetic_raw.write_raw(photos, expressions, clone / "RAW", images=60, sentences=300)
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    Image.fromarray(pixels).save(clone / "photo.jpg")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin_dir = tmp_path / "venv" / "bin"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"PATH": f"{bin_dir}:{os.environ['PATH']}", "JAX_PLATFORMS": "cpu"}
    for language, block in blocks:
        for pattern, replacement in SHORTER.items():
            block = re.sub(pattern, replacement, block)
        program = ["bash", "-ec", block] if language == "sh" else [bin_dir / "python", "-c", block]
        done = subprocess.run(
            program, cwd=clone, env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, (block, done.stdout[-3000:], done.stderr[-3000:])
    assert len(list((clone / "found").glob("*_mask.png"))) == 2
    assert (clone / "runs/refcoco/report.html").stat().st_size > 100_000
