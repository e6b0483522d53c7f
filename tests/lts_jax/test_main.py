"""`python -m lts_jax.main` from the command line."""

import os
import subprocess
import sys

import pytest

from lts_jax import main


def run(repo_root, *args, cwd=None, **env):
    return subprocess.run(
        [sys.executable, "-m", "lts_jax.main", *args],
        cwd=cwd or repo_root,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_error_for_a_misspelt_field_lists_similar_fields(repo_root, tmp_path):
    out = run(
        repo_root, "--config=configs/shapes.py", f"--workdir={tmp_path}/w", "--config.train.epoch=1"
    )
    assert out.returncode == 1
    assert "epochs" in out.stderr
    assert "Traceback" not in out.stderr
    assert not (tmp_path / "w").exists()


def error_of(*args):
    """Returns the error message of the command, run in this process."""
    with pytest.raises(SystemExit) as stopped:
        main.main(args)
    return str(stopped.value)


def test_missing_data(repo_root, tmp_path, monkeypatch):
    monkeypatch.chdir(repo_root)
    error = error_of(
        "--config=configs/refcoco.py",
        f"--workdir={tmp_path}/w",
        f"--config.data.dir={tmp_path}/d",
    )
    assert f"{tmp_path}/d/tfds_refcoco/refcoco_unc" in error
    assert "python -m tfds_refcoco build --dataset refcoco_unc --raw" in error


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--mode=eval"], "contains no checkpoint"),
        (["--config.data.image_size=100"], "data.image_size=100 must be a multiple of 32"),
        (["--config.train.batch_size=0"], "train.batch_size=0 must be positive"),
        (["--config.eval.splits=('valid',)"], "no split 'valid'"),
        (["--config.train.epochs=many"], "epochs"),
        (["--config.trian.epochs=3"], "train"),
        (["--config.data.dataset=shape"], "expected one of refcoco_unc"),
        (["--config=configs/shape.py"], "configs/shape.py"),
        (["--workdir=README.md"], "README.md"),
        (["--workdir=gs://b/run"], "--workdir=gs://b/run is not a local path"),
        (["--config.data.dir=gs://b/data"], "data.dir=gs://b/data is not a local path"),
    ],
)
def test_invalid_values_have_a_one_line_message(
    repo_root, shapes_dir, tmp_path, monkeypatch, args, expected
):
    monkeypatch.chdir(repo_root)
    defaults = [
        "--config=configs/shapes.py",
        f"--workdir={tmp_path}/w",
        f"--config.data.dir={shapes_dir}",
    ]
    error = error_of(*defaults, *args)
    assert error.startswith("error: ") and expected in error


@pytest.mark.slow
def test_configs_are_part_of_the_package(repo_root, tmp_path):
    """In another folder, a config's name and path work, until the data is missing."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("lts_jax", "tfds_refcoco"):  # only the packages, as if installed
        (folder / name).symlink_to(repo_root / name)
    for config in ("refcoco:transformer", repo_root / "configs" / "refcocog.py"):
        out = run(repo_root, f"--config={config}", cwd=tmp_path, PYTHONPATH=str(folder))
        assert out.returncode == 1
        assert "data/tfds_refcoco/refcoco" in out.stderr, out.stderr
        assert "Traceback" not in out.stderr


def test_no_config(repo_root):
    out = run(repo_root)
    assert out.returncode != 0
    assert "--config" in out.stderr + out.stdout
