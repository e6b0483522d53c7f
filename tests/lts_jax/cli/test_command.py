"""The command in unusual environments."""

import os
import subprocess
import sys

import jax
import pytest

from lts_jax.cli import command, session
from lts_jax.errors import ConfigError
from lts_jax.io import files
from lts_jax.pretrained import word_vectors


def lts(repo_root, *arguments, code="from lts_jax.__main__ import main; main()", **env):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=repo_root,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("JAX_PLATFORMS=tpu", "error: JAX_PLATFORMS=tpu: JAX finds no such device (Unable to"),
        ("JAX_ENABLE_X64=maybe", "error: invalid truth value 'maybe' for environment 'JAX_ENAB"),
    ],
)
def test_a_variable_that_jax_refuses_is_named_in_one_line(repo_root, tmp_path, variable, message):
    name, value = variable.split("=")
    flags = ["--workdir=absent", "--image=a", "--text=x", f"--out={tmp_path}"]
    done = lts(repo_root, "predict", *flags, **{name: value})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unknown backend (set JAX_")])
def test_missing_device(monkeypatch, error):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(ConfigError, match=r"JAX finds no such device.*or unset JAX_PLATFORMS$"):
        session.check_devices()


def test_a_package_that_is_not_installed(repo_root):
    code = "import runpy, sys; sys.modules['ml_collections'] = None; runpy.run_module({!r}, {}, {})"
    for module in ("lts_jax", "lts_jax.main"):
        done = lts(repo_root, code=code.format(module, None, "'__main__'"))
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert done.stderr.startswith(f"error: {sys.executable} has no package ml_collections: ")


def test_an_error_prints_no_control_characters(repo_root, tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\x1b[2J\xff \xc3\xa9")
    done = lts(repo_root, "report", folder, PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/\\x1b[2J\\udcff \\xe9/eval: no evaluation")


def test_a_backend_of_a_notebook_is_not_loaded(trained_run, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://none")
    command.main(["report", str(trained_run), f"--out={tmp_path}/r.html"])
    assert os.environ["MPLBACKEND"] == "agg"
    assert (tmp_path / "r.html").stat().st_size > 1000


def test_a_user_without_a_home(monkeypatch, tmp_path):
    """As in a container with a user id that has no user entry."""

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(files.Path, "home", home)
    assert files.cache_folder() is None and word_vectors.default_cache() is None
    session.configure_jax()
    (tmp_path / "v.txt").write_text("red 1 2\n")
    vectors = word_vectors.cached_vectors(tmp_path / "v.txt", ["red"], 2, None, progress=False)
    assert vectors.vectors.tolist() == [[1, 2]]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "lts_jax"
