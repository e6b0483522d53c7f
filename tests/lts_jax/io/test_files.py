import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.kill_and_resume import shown
from lts_jax.errors import ConfigError
from lts_jax.io.files import (
    only_run_in,
    whole_file,
    write_arrays,
    write_json,
    write_picture,
    write_text,
)
from lts_jax.pretrained.backbone import save_tensors
from lts_jax.training.logs import MetricWriter


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def log(workdir, start, steps):
    writer = MetricWriter(workdir, start)
    for step in steps:
        writer.write(step, {"loss": float(step)})
    return writer


@pytest.mark.parametrize("rest", ["", '{"step": 11, "loss": 1.0}\n', '{"step": 1', '{"step"'])
def test_each_step_once_however_often_it_is_killed(tmp_path, rest):
    for start, steps in ((0, range(1, 6)), (3, range(4, 8)), (3, range(4, 10)), (8, (9, 10))):
        log(tmp_path, start, [start, *steps] if start else steps)
        # Killed: not closed, with an incomplete last line.
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(rest)
        files = list((tmp_path / "tensorboard").iterdir())  # named by the second
        max(files, key=lambda path: path.name).rename(tmp_path / "tensorboard" / f"a{len(files)}")
    log(tmp_path, 10, []).__exit__()
    assert lines(tmp_path) == [{"step": s, "loss": float(s)} for s in range(1, 11)]
    assert shown(tmp_path) == [(s, "loss", float(s)) for s in range(1, 11)]


def test_a_damaged_line_costs_itself_alone(tmp_path, capsys):
    log(tmp_path, 0, range(1, 6)).__exit__()
    path = tmp_path / "metrics.jsonl"
    good = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*good[:2], bytes(9), b"5", b"[]", *good[3:], b'{"step": \xff']))
    log(tmp_path, 5, []).__exit__()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 4, 5]
    assert "metrics.jsonl: invalid line 3, 4, 5, 8 removed" in capsys.readouterr().err


def test_a_planted_link_is_not_written_through(tmp_path):
    """A folder may contain a link with the name of a temporary file or of the lock."""
    mine, run = tmp_path / "mine", tmp_path / "run"
    mine.write_text("mine")
    run.mkdir()
    (run / ".report.html.tmp").symlink_to(mine)
    (run / "report.html").symlink_to(mine)
    write_text(run / "report.html", "page")
    assert (run / "report.html").read_text() == "page" and mine.read_text() == "mine"
    (run / ".lock").symlink_to(tmp_path / "new")
    with (
        pytest.raises(ConfigError, match=r"run/\.lock points outside .*/run, to"),
        only_run_in(run),
    ):
        pass
    assert not (tmp_path / "new").exists()


def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_run_in(tmp_path):
        assert f"{tmp_path}: the file system does not support locks" in capsys.readouterr().err


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    writer = log(tmp_path, 0, [1])
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        monkeypatch.setattr(writer, "_file", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*metrics\.jsonl'"):
            writer.write(2, {"loss": 2.0})
        writer.__exit__()


def test_two_writers_do_not_meet(tmp_path):
    """Also with the longest file name."""
    path = tmp_path / ("é" * 125 + ".json")
    with whole_file(path) as first, whole_file(path) as second:
        assert first != second
        for temporary, text in ((first, "1"), (second, "2")):
            temporary.write_text(text)
    assert path.read_text() == "1"  # the last to be complete
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_name_that_is_no_text_can_be_in_a_text(tmp_path):
    write_text(tmp_path / "r.html", "bad\udcff λ")
    assert (tmp_path / "r.html").read_bytes() == "bad\\udcff λ".encode()


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path):
    (tmp_path / "r.html").mkdir()
    with pytest.raises(OSError, match=r"'[^']*/r\.html'") as error:
        write_text(tmp_path / "r.html", "x")
    assert ".tmp" not in str(error.value).partition("->")[0]
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_file_permissions_follow_the_umask(tmp_path, umask, mode):
    writers = {
        "a.json": lambda path: write_json(path, {}),
        "a.npz": lambda path: write_arrays(path, {"x": np.zeros(2)}),
        "a.png": lambda path: write_picture(path, Image.new("L", (2, 2))),
        "a.safetensors": lambda path: save_tensors(path, {"x": np.zeros(2)}, [], {}),
    }
    before = os.umask(umask)
    try:
        for name, write in writers.items():
            write(tmp_path / name)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(writers, mode)


def test_a_killed_run_frees_its_workdir(repo_root, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from lts_jax.io.files import only_run_in\n"
        "with only_run_in(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=repo_root, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"in\n"
    with pytest.raises(ConfigError, match="another run is using"), only_run_in(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with only_run_in(tmp_path):
        pass
