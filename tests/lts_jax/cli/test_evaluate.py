"""`lts eval` of any checkpoint, on one and on two processes."""

import json
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from lts_jax import main
from lts_jax.errors import ConfigError
from lts_jax.evaluation import external, results
from lts_jax.evaluation.run import evaluate
from lts_jax.io.files import only_run_in
from lts_jax.state.checkpoint_files import split_path
from tests.lts_jax.helpers import independent


def start(repo_root, *args):
    return subprocess.Popen(
        [sys.executable, "-m", "lts_jax.main", "--mode=eval", *args],
        cwd=repo_root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_give_what_one_gives(repo_root, trained_run, shapes_dir):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (step,) = (int(p.name) for p in (trained_run / "checkpoints").iterdir() if p.name.isdecimal())
    checkpoint = trained_run / "checkpoints" / str(step)
    arguments = [f"--checkpoint={checkpoint}", f"--coordinator=localhost:{port}"]
    arguments.append("--config.eval.splits=testB,val")  # testB has no image for the second process
    both = [start(repo_root, *arguments, "--num_processes=2", f"--process_id={k}") for k in (1, 0)]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], outputs
    assert "prec@0.5" in outputs[1] and "prec@0.5" not in outputs[0]
    assert not (trained_run / f"step{step}" / "eval" / "testA").exists()
    for split in ("testB", "val"):
        for name in ("metrics.json", "predictions.json", "analysis.json"):
            one = trained_run / "eval" / split / name
            two = trained_run / f"step{step}" / "eval" / split / name
            ours, reference = json.loads(two.read_text()), json.loads(one.read_text())
            # Other batch shapes round differently: a pixel may cross one of the 19 thresholds.
            if name == "analysis.json":
                curve, expected = (x.pop("threshold_curve") for x in (ours, reference))
                assert curve.keys() == expected.keys()
                for key, values in curve.items():
                    assert values == pytest.approx(expected[key], abs=1e-5), (split, key)
            assert ours == reference, (split, name)


@pytest.mark.slow
def test_repeated_evaluation_is_identical(trained_run):
    sums = [independent.check_run(trained_run, name) for name in ("val", "testA", "testB")]
    total = {k: sum(s[k] for s in sums) for k in sums[0]}
    assert total["sentences"] == 66 and total["pointing differs"] == 0
    assert total["differing"] <= total["near"] < 1e-3 * total["pixels"]
    assert all(0.01 < s["oiou"] < 1 for s in sums)


def test_the_scorer_returns_the_metrics_to_the_last_digit(trained_run, shapes_data):
    for name in ("val", "testA", "testB"):
        folder, split = trained_run / "eval" / name, shapes_data.split(name)
        scored = external.score(split, external.Predictions(folder / "predictions.json"))
        metrics = results.summarize(split, scored)
        written = json.loads((folder / "metrics.json").read_text())
        assert metrics.items() <= written.items()
        assert written.keys() - metrics.keys() == {"threshold", "chosen_on", "other"}
        assert metrics["pointing"] is not None


def test_one_evaluation_at_a_time(trained_run):
    raises = pytest.raises(ConfigError, match=r"another run is using .*eval/val")
    with only_run_in(trained_run / "eval" / "val"), raises:
        evaluate(None, trained_run)


def test_a_killed_evaluation_leaves_no_older_files(trained_run, shapes_data, tmp_path, monkeypatch):
    shutil.copytree(trained_run / "eval" / "testB", tmp_path / "e")
    split, n = shapes_data.split("testB"), len(shapes_data.split("testB").index.text)
    numbers = np.ones(n, np.int32)

    def killed(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        results.write(
            split, results.SplitResults(numbers, numbers, numbers, [""] * n), tmp_path / "e"
        )
    left = {file.name for file in (tmp_path / "e").iterdir()}
    assert "metrics.json" in left and not left & {"run.json", "heatmaps.npz"}


def test_no_such_checkpoint(trained_run, tmp_path):
    with pytest.raises(ConfigError, match="no checkpoint of step 99999; available steps"):
        evaluate(None, trained_run, 99999)
    with pytest.raises(ConfigError, match="contains no checkpoint: train first"):
        evaluate(None, tmp_path)
    with pytest.raises(ConfigError, match="must be a step's folder"):
        split_path(tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mode=eval"], "specify --config, or the --workdir"),
        (["--mode=eval", "--workdir=w", "--checkpoint=w/checkpoints/1"], "use one of them"),
        (["--workdir=w", "--text=x"], "unrecognized arguments: --text=x"),
        (
            ["--workdir=w", "--mode=predict", "--coordinator=localhost:1"],
            "unrecognized.* --coordinator",
        ),
        (
            ["--workdir=w", "--mode=eval", "--distributed=auto", "--coordinator=localhost:1"],
            "use one of them",
        ),
        (["--workdir=w", "--mode=eval", "--coordinator=localhost"], "must be host:port"),
        (["--workdir=w", "--mode=predict", "--image=a", "--text=x"], "--out is required"),
        (["--checkpoint=w/checkpoints/1"], "unrecognized arguments: --checkpoint"),
        (["--workdir=w", "--config.eval.splits=val"], "--config is required"),
        (["--workdir=w", "--mode=eval", "--num_processes=2"], "require --coordinator"),
        (["--workdir=w", "--mode=eval", "--process_id=1"], "require --coordinator"),
    ],
)
def test_incompatible_flags(flags, message, capsys):
    assert re.search(message, error_of(flags, capsys))


@pytest.mark.slow
def test_no_distributed_environment(repo_root):
    process = start(repo_root, "--workdir=w", "--distributed=auto")
    assert "No TPU VM, SLURM" in process.communicate(timeout=300)[0]
    assert process.returncode == 1


def error_of(arguments, capsys):
    """Returns the error message of the command."""
    with pytest.raises(SystemExit) as stopped:
        main.main(arguments)
    return f"{stopped.value.code}\n{capsys.readouterr().err}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.eval.split=val", 'Did you mean "splits"'),
        ("--config.eval.batch_size=many", "batch_size=many"),
        ("--config.eval.batch_size=0", "eval.batch_size=0 must be positive"),
        ("--config.train.epochs=3", "without --config, only fields of data and eval"),
        ("--config.data.image_size=32", "data.image_size: 64 in the checkpoint, 32 now"),
        ("--wrokdir=x", "unrecognized arguments: --wrokdir=x"),
    ],
)
def test_fields_that_cannot_be_set(trained_run, override, message, capsys):
    arguments = ["--mode=eval", f"--workdir={trained_run}", "--config.eval.gallery=1", override]
    assert re.search(message, error_of(arguments, capsys))
