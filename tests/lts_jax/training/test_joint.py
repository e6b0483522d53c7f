"""Joint training that is killed at random and resumed, on one and on two processes."""

import json
import random
import signal
import socket
import sys

import pytest

from benchmarks.kill_and_resume import Life, compare, log
from lts_jax.reporting.page import make_report
from tests.helpers import add_custom
from tests.lts_jax.helpers.recorded import as_flags
from tests.lts_jax.helpers.tiny import leave_little

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def joint_config(shapes_dir, tiny_config_factory, tmp_path_factory):
    """`shapes`, and a custom dataset that holds out four of its images and trains on others."""
    out = tmp_path_factory.mktemp("joint") / "data"
    add_custom(out, shapes_dir, {"train": range(8), "val": range(20, 24)}, sentences=3)
    config = leave_little(tiny_config_factory())
    config.data.dir = str(out)
    config.data.dataset = "shapes+custom"
    config.data.threads = 1
    config.eval.splits = ("custom/val",)
    config.eval.best_split = "shapes/val,custom/val"
    config.train.epochs = 0.5
    config.train.drop_epochs = (0.4,)
    config.eval.every_epochs = 0.25
    config.checkpoint.every_minutes = 1e-6  # after every step
    return config


@pytest.fixture
def lives(joint_config, repo_root, monkeypatch):
    """Starts the run in a workdir, on some processes."""
    monkeypatch.chdir(repo_root)

    def start(workdir, processes):
        command = [sys.executable, "-m", "lts_jax.main", "--config=configs/shapes.py"]
        command += [f"--workdir={workdir}", *as_flags(joint_config)]
        if processes == 1:
            return [Life(command, log(workdir))]
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        command += [f"--coordinator=localhost:{port}", f"--num_processes={processes}"]
        return [
            Life([*command, f"--process_id={k}"], log(workdir).with_suffix(f".{k}.txt"))
            for k in range(processes)
        ]

    return start


@pytest.mark.timeout(900)
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_random_and_resumed(lives, tmp_path, processes):
    whole, often = tmp_path / "whole", tmp_path / "often"
    for life in lives(whole, processes):
        assert life.end()[0] == 0, life.output
    running = lives(often, processes)
    assert running[0].wait_for("step 3/"), running[0].output
    assert not running[0].ended_after(random.uniform(0, 1)), running[0].output
    for life in running:
        life.end(signal.SIGKILL)
    running = lives(often, processes)
    for life in running:
        assert life.end()[0] == 0, life.output
    assert "resumed from step" in running[0].output
    comparison = compare(whole, often)
    assert comparison.pop("stray_files") == [] and comparison.pop("evaluation_files") == 3
    assert comparison.pop("last_step")[0] > 5
    assert all(comparison.values()), comparison

    run = json.loads((often / "run.json").read_text())
    assert run["data"]["sets"]["shapes"]["dropped_images"] == 4
    assert run["data"]["sets"]["custom"]["dropped_images"] == 0
    lines = [json.loads(line) for line in (often / "metrics.jsonl").read_text().splitlines()]
    assert all(
        ("shapes/val/oiou" in line) == ("custom/val/oiou" in line) for line in lines
    ) and any("custom/val/oiou" in line for line in lines)
    assert all(("mean/oiou" in line) == ("custom/val/oiou" in line) for line in lines)
    file = often / "eval" / "custom" / "val" / "run.json"
    evaluated = json.loads(file.read_text())
    assert evaluated["trained_on"] == run["data"]
    page = make_report(often, "lts", most=3)
    assert "Scores during training" in page and "Trained on held-out images" not in page
    evaluated["trained_on"]["sets"]["custom"]["leaked_images"] = 4
    file.write_text(json.dumps(evaluated))
    assert "Trained on held-out images</b> (data.allow_leaks): 4 of custom." in make_report(
        often, "lts", most=3
    )
