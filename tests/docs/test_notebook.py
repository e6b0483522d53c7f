"""The notebooks, executed cell by cell."""

import os
import shlex
import sys

import numpy as np
import pytest
from PIL import Image

import tfds_refcoco
from tfds_refcoco.shapes import generate

pytestmark = pytest.mark.slow


def execute(repo_root, folder, tag, monkeypatch, train_flags="", name="five_minutes"):
    """Runs the cells of a notebook that have a tag, in a folder; returns these cells."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(repo_root / f"docs/notebooks/{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    tags = {t for cell in code for t in cell.metadata.tags}
    assert {"install", tag} <= tags <= {"install", "photos", "train", "own", "results"}
    notebook.cells = [cell for cell in code if tag in cell.metadata.tags]
    for cell in notebook.cells:  # the package is not installed here
        command = f"!{shlex.quote(sys.executable)} -m lts_jax "
        cell.source = cell.source.replace("!lts ", command)
        if cell.source.startswith(f"{command}train "):
            cell.source += train_flags
    paths = [str(repo_root), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return notebook.cells


def shows_a_picture(cell):
    return any("image/png" in output.get("data", {}) for output in cell.outputs)


def test_training(repo_root, tmp_path, monkeypatch):
    generate(
        tmp_path / "raw", scenes={"train": 24, "val": 6, "testA": 4, "testB": 3}, progress=False
    )
    tfds_refcoco.build("shapes", tmp_path / "small", tmp_path / "raw", progress=False)
    flags = " --config.data.dir=small --config.train.batch_size=8"
    trained, gallery, found = execute(repo_root, tmp_path, "train", monkeypatch, flags)
    assert "oiou" in str(trained.outputs).lower()
    assert shows_a_picture(gallery) and shows_a_picture(found)


def test_photos(repo_root, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    first, printed, heatmap = execute(repo_root, tmp_path, "photos", monkeypatch)
    assert shows_a_picture(first) and shows_a_picture(heatmap)
    assert "unknown words" in str(printed.outputs)


def test_own_data(repo_root, tmp_path, monkeypatch):
    cells = execute(repo_root, tmp_path, "own", monkeypatch, name="own_data")
    sentences, built, pictures, trained, prediction = cells[2:]
    assert "category" in str(sentences.outputs) and "custom" in str(built.outputs)
    assert shows_a_picture(pictures) and shows_a_picture(prediction)
    assert "oiou" in str(trained.outputs).lower()


def test_results(repo_root, tmp_path, monkeypatch):
    scenes = {"train": 24, "val": 6, "testA": 4, "testB": 3}
    generate(tmp_path / "raw", scenes=scenes, progress=False)
    tfds_refcoco.build("shapes", tmp_path / "data", tmp_path / "raw", progress=False)
    flags = " --config.train.batch_size=8"
    cells = execute(repo_root, tmp_path, "results", monkeypatch, flags, "results")
    metrics, curve, groups, worst, compared, report = cells[3:]
    assert "best threshold:" in str(metrics.outputs) and shows_a_picture(curve)
    assert "relation" in str(groups.outputs) and str(worst.outputs).count("IoU 0.") == 3
    assert "A is better in" in str(compared.outputs) and "report.html" in str(report.outputs)
