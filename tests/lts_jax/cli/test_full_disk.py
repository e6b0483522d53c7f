"""If the disk is full, a command prints one line and leaves no incomplete files."""

import resource
import shutil

import pytest

from tests.lts_jax.helpers.damage import error_of


@pytest.fixture
def small_files():
    """Limits files to a few hundred bytes until the returned function is called."""
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
        assert not (
            run / written
        ).exists()  # written last: an old one would not match the new files
