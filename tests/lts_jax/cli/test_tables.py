"""`lts tables` in a separate process."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.lts_jax.helpers.tiny import TINY


def command(repo_root, *args, **env):
    return subprocess.run(
        [sys.executable, "-m", "lts_jax", "tables", *args],
        cwd=repo_root,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--table=8"],
            "error: --table 8 is unknown; available tables: 1, 2, 3, 4, 5, 6, 7, beyond",
        ),
        (["--config=configs/shapes.py:star"], "use --config configs/shapes.py"),
        (["--config=configs/shapes.py:stra"], "unknown variant 'stra'"),
        (["--config.seed", "4"], "error: --config.seed cannot be set here"),
        (["--config.train.batch_size", "0"], "error: configs/shapes.py:lts: train.batch_size=0"),
    ],
)
def test_bad_arguments_are_one_line(repo_root, tmp_path, args, message):
    defaults = ["--config=configs/shapes.py", "--table=1", f"--workdir={tmp_path}/w"]
    out = command(repo_root, *defaults, *args)
    assert out.returncode == 1
    assert message in out.stderr
    assert "Traceback" not in out.stderr
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_real_runs(repo_root, shapes_dir, tmp_path):
    sizes = [f"--config.model.{name}={value}" for name, value in TINY.items()]
    args = [
        *("--config", "configs/shapes.py", "--table=1", "--seeds=1", f"--workdir={tmp_path}"),
        *("--config.data.dir", str(shapes_dir), "--noconfig.model.neck"),
        *("--config.data.image_size=64", "--config.train.batch_size=8", "--config.train.epochs"),
        *(
            "0.1",
            "--config.train.drop_epochs=(0.05,)",
            "--config.eval.splits=('val',)",
            "--config.eval.gallery=0",
            *sizes,
        ),
    ]
    out = command(repo_root, *args)
    assert out.returncode == 0, out.stderr + out.stdout
    workdir = tmp_path / "lts" / "seed0"
    saved = json.loads((workdir / "eval" / "val" / "run.json").read_text())["config"]
    assert (saved["model"]["neck"], saved["train"]["epochs"]) == (False, 0.1)
    assert "parameters:" in (workdir / "log.txt").read_text()
    metrics = json.loads((workdir / "eval" / "val" / "metrics.json").read_text())
    row = json.loads((tmp_path / "table1.json").read_text())["rows"][0]
    assert row["runs"][0]["splits"]["val"]["metrics"] == metrics
    assert row["ours"]["val"]["miou"]["mean"] == pytest.approx(100 * metrics["miou"])
    assert f"| lts | 1 | {100 * metrics['oiou']:.2f} |" in (tmp_path / "table1.md").read_text()

    log = (workdir / "log.txt").stat()
    out = command(repo_root, *args)
    assert out.returncode == 0, out.stderr + out.stdout
    assert "1 of 1 runs are finished" in out.stdout
    assert (workdir / "log.txt").stat() == log


LONG_RUNS = """
import pathlib, sys
from lts_jax.cli.tables import interrupt_on_signals
from lts_jax.io.console import configure_logging
from lts_jax.paper import runs

configure_logging()
interrupt_on_signals()
child = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
jobs = [runs.Run(str(i), 0, pathlib.Path(sys.argv[1]) / str(i), None) for i in range(3)]
try:
    runs.train(jobs, lambda run: [sys.executable, "-c", child], 2, print)
except KeyboardInterrupt:
    sys.exit("stopped")
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_runs_end_with_the_command(repo_root, tmp_path, sent):
    process = subprocess.Popen(
        [sys.executable, "-c", LONG_RUNS, str(tmp_path)],
        cwd=repo_root,
        stderr=subprocess.PIPE,
        # Python raises KeyboardInterrupt only if SIGINT was not ignored at startup.
        preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in (sent, signal.SIGINT)],
    )
    logs = [tmp_path / str(i) / "log.txt" for i in range(2)]
    deadline = time.monotonic() + 60
    while not all(log.exists() and log.read_text().count("\n") >= 2 for log in logs):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(sent)
    assert process.communicate(timeout=60)[1].decode().strip() == "stopped"
    for log in logs:
        with pytest.raises(ProcessLookupError):
            os.kill(int(log.read_text().splitlines()[-1]), 0)
    assert not (tmp_path / "2").exists()
