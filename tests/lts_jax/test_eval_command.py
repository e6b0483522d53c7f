"""Evaluation as a user starts it: of any checkpoint, on one process and on two."""

import json
import socket
import subprocess
import sys

import pytest

from lts_jax import main
from lts_jax.checkpointing import split_path
from lts_jax.errors import ConfigError
from lts_jax.train import evaluate


def start(repo_root, *args):
    return subprocess.Popen(
        [sys.executable, "-m", "lts_jax.main", "--mode=eval", *args],
        cwd=repo_root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_give_what_one_gives(repo_root, trained_run, shapes_dir):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (step,) = (int(p.name) for p in (trained_run / "checkpoints").iterdir() if p.name.isdecimal())
    checkpoint = trained_run / "checkpoints" / str(step)
    arguments = [f"--checkpoint={checkpoint}", f"--coordinator=localhost:{port}"]
    both = [start(repo_root, *arguments, "--num_processes=2", f"--process_id={k}") for k in (1, 0)]
    try:
        said = [process.communicate(timeout=300)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said
    assert "prec@0.5" in said[1] and "prec@0.5" not in said[0]
    for split in ("val", "testA", "testB"):
        for name in ("metrics.json", "predictions.json", "analysis.json"):
            one = trained_run / "eval" / split / name
            two = trained_run / f"step{step}" / "eval" / split / name
            assert json.loads(two.read_text()) == json.loads(one.read_text()), (split, name)


def test_no_such_checkpoint(trained_run, tmp_path):
    with pytest.raises(ConfigError, match="no checkpoint of step 99999; there are"):
        evaluate(None, trained_run, 99999)
    with pytest.raises(ConfigError, match="holds no checkpoint: train first"):
        evaluate(None, tmp_path)
    with pytest.raises(ConfigError, match="give a step's folder"):
        split_path(tmp_path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "give a --config, or the --workdir"),
        (["--workdir=w", "--checkpoint=w/checkpoints/1"], "give one of them"),
        (["--workdir=w", "--text=x"], "need --mode=predict"),
        (["--workdir=w", "--coordinator=localhost"], "several processes can only evaluate"),
        (["--workdir=w", "--mode=eval", "--coordinator=localhost"], "give host:port"),
        (["--workdir=w", "--mode=predict", "--image=a", "--text=x"], "--out: give the folder"),
        (["--checkpoint=w/checkpoints/1"], "--config: give a config file"),
    ],
)
def test_flags_that_do_not_go_together(flags, said):
    main.FLAGS.unparse_flags()
    for name in ("workdir", "checkpoint", "mode", "image", "text", "out", "coordinator"):
        main.FLAGS[name].unparse()
    main.FLAGS(["main", *flags])
    with pytest.raises(ConfigError, match=said):
        main.run(main.FLAGS.mode)
