"""The parts of `benchmarks/accelerator.sh`, and a dry run."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks import accelerator, compile_all
from benchmarks.compiled.devices import DEVICES

STEPS = {
    "rates",
    "train_bf16",
    "train_bf16_torch",
    "train_f32",
    "train_bf16_shared",
    "train_bf16_no_triton",
    "evaluation",
    "idle",
    "predict",
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("cpu", None),
    ],
)
def test_attached_device(kind, name, monkeypatch):
    monkeypatch.setattr("jax.devices", lambda: [type("Device", (), {"device_kind": kind})])
    assert accelerator.attached() == name


def test_batch_by_what_was_compiled(tmp_path, monkeypatch):
    """Uses the result of `--fit` for this device, else the memory per example of a similar one."""
    monkeypatch.setattr(accelerator, "COMPILED", tmp_path)
    monkeypatch.setattr(accelerator, "attached", lambda: "a100")
    assert accelerator.largest_batch("bfloat16") == 16  # no compiled results
    memory = {"arguments": 10**9, "temporaries": 64 * 10**8}
    train = {"memory": memory, "traffic": {"bytes_per_example": 2.03904e9}, "operations": 64}
    compiled = {"device": "h100", "devices": 1, "batch": 64, "programs": {"train": train}}
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "h100_bfloat16.json").write_text(json.dumps(compiled))
    expected = int((0.9 * DEVICES["a100"].memory - 10**9) / 10**8) // 8 * 8
    assert accelerator.largest_batch("bfloat16") == expected
    assert accelerator.predicted("bfloat16", 100, 1) == pytest.approx(0.1)
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "a100_bfloat16.json").write_text(json.dumps({"fit": {"batch": 72}}))
    assert accelerator.largest_batch("bfloat16") == 72
    monkeypatch.setattr(accelerator, "attached", lambda: "v5e")
    assert accelerator.largest_batch("bfloat16") == 16


def test_every_job_writes_a_separate_file():
    jobs = list(compile_all.jobs())
    files = [job.file for job in jobs]
    once = {job.file: job.arguments for job in jobs}
    # The first jobs also belong to a later table.
    assert all(once[job.file] == job.arguments for job in jobs)
    assert {"variants/h100/star.json", "variants/v5ex4/lts.json"} < set(files)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_dry_run(tmp_path, repo_root):
    pytest.importorskip("torch")
    script = repo_root / "benchmarks" / "accelerator.sh"
    done = subprocess.run(
        ["bash", script, "--out", tmp_path, "--dry-run"],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.stem for path in tmp_path.glob("*.json")} == STEPS
    assert "model, not measured" in done.stdout
    assert "train_bf16, batch 8, ours" in done.stdout and "predict, text" in done.stdout
