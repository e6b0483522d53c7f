"""Killed and stopped runs have the same result as uninterrupted runs."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.kill_and_resume import Life, compare, log, saving
from lts_jax.errors import Stopped
from lts_jax.evaluation.evaluator import Evaluator
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.training import loop
from lts_jax.training.preemption import Stop
from tests.lts_jax.helpers.recorded import as_flags

pytestmark = pytest.mark.slow


def check_equal(whole, workdir):
    comparison = compare(whole, workdir)
    assert comparison.pop("stray_files") == []
    assert comparison.pop("last_step")[0] > 5
    assert comparison.pop("evaluation_files") == 9
    assert all(comparison.values()), comparison


def test_killed_and_stopped(whole_run, tiny_config_factory, tmp_path, monkeypatch, repo_root):
    monkeypatch.chdir(repo_root)
    config = tiny_config_factory()
    config.data.threads = 1
    config.checkpoint.every_minutes = 1e-6  # after every step
    workdir = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "lts_jax.main", "--config=configs/shapes.py"),
        *(f"--workdir={workdir}", *as_flags(config)),
    ]
    life = Life(command, log(workdir))
    assert life.wait_for("step 3/"), life.output
    while not saving(workdir):
        assert not life.ended_after(0.001), life.output
    assert life.end(signal.SIGKILL)[0] == -signal.SIGKILL

    life = Life(command, log(workdir))
    assert life.wait_for("first step in"), life.output
    assert life.end(signal.SIGTERM)[0] == 0  # benchmarks/kill_and_resume.py measures the delay
    assert "rerun the same command to resume" in life.output.splitlines()[-1]

    life = Life(command, log(workdir))
    assert life.end()[0] == 0, life.output
    assert "resumed from step" in life.output
    check_equal(whole_run[0], workdir)


def test_stopped_in_an_evaluation_and_in_training(
    whole_run, tiny_config_factory, tmp_path, monkeypatch, capsys
):
    config = tiny_config_factory()
    config.data.threads = 4
    calls = []

    def scores(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    real = Evaluator.scores
    monkeypatch.setattr(Evaluator, "scores", scores)
    with pytest.raises(KeyboardInterrupt):
        loop.train(config, tmp_path)
    with Checkpoints(tmp_path) as checkpoints:  # the last step was saved
        step = checkpoints.latest_step
        assert not checkpoints.scored(step)
    stop = Stop()
    stop.signal = signal.SIGTERM
    capsys.readouterr()
    with pytest.raises(Stopped, match=rf"stopped at step {step + 1} of \d+ and saved"):
        loop.train(config, tmp_path, stop)
    # The evaluation is repeated first.
    assert re.search(
        rf"resumed from step {step} of \d+\nstep {step}  val:", capsys.readouterr().out
    )
    loop.train_and_evaluate(config, tmp_path)
    check_equal(whole_run[0], tmp_path)


def test_signal_before_training(repo_root, tmp_path):
    """Sends the signal as soon as there is a handler, before the slow imports."""
    command = [sys.executable, "-m", "lts_jax.main", "--config=configs/shapes.py"]
    process = subprocess.Popen(
        [*command, f"--workdir={tmp_path}/run"], cwd=repo_root, stdout=subprocess.PIPE, text=True
    )
    status = Path(f"/proc/{process.pid}/status")
    while not int(re.findall(r"SigCgt:\t(\w+)", status.read_text())[0], 16) >> 14 & 1:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0].startswith("stopped ")
    assert process.returncode == 0
    assert not (tmp_path / "run").exists()
