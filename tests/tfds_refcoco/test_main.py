"""Tests of the command line, and of the cost of importing the package."""

import os
import signal
import subprocess
import sys

import pytest

from tfds_refcoco import __main__ as command_line
from tfds_refcoco.__main__ import main


def test_import_is_light(repo_root):
    code = (
        "import sys, tfds_refcoco\n"
        "print({'tensorflow_datasets', 'tensorflow', 'jax', 'PIL'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=repo_root, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_command_line(write_raw, tmp_path, capsys):
    raw, out = write_raw(), tmp_path / "out"
    arguments = ["build", "--dataset", "refcoco_unc", "--raw", str(raw), "--out", str(out)]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "train" in table and "120624" in table and str(out) in table
    arguments[2] = "refcocog_umd"
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: instances.json not found")
    assert main(["build", "--dataset", "refcoco_unc", "--out", str(out / "new")]) == 1
    assert "--raw" in capsys.readouterr().err
    assert main([*arguments[:4], str(tmp_path / "absent"), *arguments[5:]]) == 1
    assert "is not a folder" in capsys.readouterr().err
    (tmp_path / "file").touch()
    arguments[2] = "refcoco_unc"
    assert main([*arguments[:6], str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_bucket_is_refused_as_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["build", "--dataset", "shapes", "--out", "gs://b/data"])
    assert "--out: gs://b/data is not a local path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "coco", "gs://b/a.json", "--out", "o"],
        ["import", "coco", "a.json", "--out", "gs://b/o"],
        ["expressions", "--coco", "a.json", "--images", "gs://b/i", "--out", "o"],
    ],
)
def test_all_commands_refuse_a_bucket(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "is not a local path" in capsys.readouterr().err


def test_a_negative_seed(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["generate", "--out", str(tmp_path), "--seed", "-1"])
    assert "--seed: '-1' is not a non-negative integer" in capsys.readouterr().err


def test_the_backend_of_a_notebook_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://none")
    main(["check", "--out", str(tmp_path)])
    assert os.environ["MPLBACKEND"] == "agg"


def test_usage_shows_the_name_of_the_command(capsys):
    with pytest.raises(SystemExit) as exit_status:
        main(["build", "--help"], prog="lts data")
    assert exit_status.value.code == 0
    assert capsys.readouterr().out.startswith("usage: lts data build ")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_ignored_signals_remain_ignored(handler):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with command_line._interruptible():
            during = signal.getsignal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (during is signal.SIG_IGN) == (handler is signal.SIG_IGN)
