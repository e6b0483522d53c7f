"""A disk that is full while a command writes: one line, and nothing half written is believed."""

import resource
import shutil

import pytest

from tests.lts_jax.helpers.damage import error_of


@pytest.fixture
def small_files():
    """Files may have a few hundred bytes, until the function that it gives is called."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("report {run} --out {run}/report.html", "report.html"),
        ("export {run} --format safetensors", "export/safetensors/model.safetensors"),
        ("predict --workdir {run} --image {run}/eval/val/gallery.png --text x --out {run}/p", "p"),
        pytest.param("eval --workdir {run}", "eval/val/run.json", marks=pytest.mark.slow),
    ],
    ids=lambda x: x.split()[0],
)
def test_a_full_disk(trained_run, tmp_path, request, command, written):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    arguments = command.format(run=run).split()
    end = request.getfixturevalue("small_files")
    message = error_of(*arguments)
    assert "File too large" in message and str(run) in message and "\n" not in message, message
    end()
    left = [path for path in run.rglob("*") if "tmp" in path.name or path.name.startswith(".")]
    assert {path.name for path in left} <= {".lock"}
    if written.endswith("run.json"):
        assert not (run / written).exists()  # written last: the old one would speak of new files
