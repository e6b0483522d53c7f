"""`lts export`."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from lts_jax.cli import command
from lts_jax.distributed.mesh import one_device
from lts_jax.experiment.restore import restore
from lts_jax.state.checkpoints import Checkpoints


@pytest.mark.slow
def test_the_command_exports_a_run(trained_run, tiny_config_factory, tmp_path, capsys):
    from lts_jax.training import loop

    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    best = ["--format=safetensors", f"--out={tmp_path / 'best'}", "--config.eval.threshold=val"]
    command.main(["export", str(run), *best])
    assert json.loads((tmp_path / "best/preprocessing.json").read_text())["threshold"] == 0.4
    capsys.readouterr()
    for kind in ("safetensors", "onnx"):
        command.main(["export", str(run), "--format", kind])
        folder = run / "export" / kind
        message = capsys.readouterr()
        assert f"wrote {folder}: " in message.out and message.err == ""
        spec = json.loads((folder / "preprocessing.json").read_text())
        assert (spec["image_size"], spec["max_words"], spec["threshold"]) == (64, 12, 0.25)
        assert spec["best_threshold"] == 0.4
        with Checkpoints(run) as checkpoints:
            words = checkpoints.read_run(checkpoints.best_step)["vocabulary"]
        assert json.loads((folder / "vocabulary.json").read_text()) == words
    tensors = load_file(run / "export" / "safetensors" / "model.safetensors")
    trained = restore(run, one_device())
    assert tensors.keys() == trained.arrays.keys()
    for name, value in trained.arrays.items():
        np.testing.assert_array_equal(tensors[name], value)
    with pytest.raises(SystemExit, match="is not empty"):
        command.main(["export", str(run), "--format", "onnx"])
    with pytest.raises(SystemExit, match="contains no checkpoint"):
        command.main(["export", str(tmp_path / "none"), "--format", "onnx"])
    # The export can also be used as pretrained backbone weights.
    again = tiny_config_factory()
    again.train.epochs = 0.1
    again.train.drop_epochs = ()
    again.model.backbone_weights = str(run / "export" / "safetensors" / "model.safetensors")
    again.train.freeze = "backbone"
    loop.train(again, tmp_path / "again")
    new = restore(tmp_path / "again", one_device()).arrays
    assert all(
        (value == new[name]).all() for name, value in tensors.items() if "/backbone/" in name
    )


@pytest.mark.parametrize(("kind", "package"), [("stablehlo", "flatbuffers"), ("onnx", "onnx")])
def test_a_package_that_is_missing_is_named_first(tmp_path, monkeypatch, kind, package):
    """The error is raised before the network is traced, which takes a minute."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda x: None if x == package else find_spec(x)
    )
    message = rf"--format={kind} requires the package {package}; run pip install"
    with pytest.raises(SystemExit, match=message):
        command.main(["export", str(tmp_path / "absent"), "--format", kind])


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (".", "is or contains the current directory"),
        ("..", "is or contains the current directory"),
        ("full", "not empty"),
        ("file", "is a file"),
    ],
)
def test_foreign_output_folder_is_rejected(out, message, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"error: --out=.*{message}"):
        command.main(["export", "run", "--format", "onnx", "--out", out])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
