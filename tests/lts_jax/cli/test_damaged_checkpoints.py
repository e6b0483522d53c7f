"""Damaged or malicious metadata of checkpoints."""

import json
import shutil

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lts_jax.cli import command
from lts_jax.errors import ConfigError
from lts_jax.state import checkpoint_reader, checkpoints
from lts_jax.state.checkpoint_files import DESCRIBED
from lts_jax.state.fingerprint import fingerprint, json_checksum
from lts_jax.state.train_state import TrainState
from lts_jax.training import initialization
from tests.lts_jax.helpers.damage import JSON, error_of

NEED_A_FIELD = (
    "latin-1",
    "missing field",
    "infinite field",
    "half a surrogate pair",
    "other type",
)


@pytest.fixture(scope="module")
def run(trained_run, tmp_path_factory):
    run = tmp_path_factory.mktemp("checkpoint") / "run"
    shutil.copytree(trained_run / "checkpoints", run / "checkpoints")
    return run


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.new("RGB", (40, 40)).save(path)
    return path


def commands(run, picture, out):
    return (
        ("eval", "--workdir", run),
        ("eval", "--workdir", run, "--config.eval.splits=val"),
        ("predict", "--workdir", run, "--image", picture, "--text", "red", "--out", out),
        ("export", run, "--format", "safetensors", "--out", out),
    )


@pytest.mark.parametrize("item", [*DESCRIBED, "checksums"])
def test_damaged_items(run, picture, item, tmp_path, capsys):
    file = run / "checkpoints" / "7" / item / "metadata"
    good = file.read_bytes()
    try:
        for harm, change in JSON.items():
            if item == "weights" and harm in NEED_A_FIELD:
                continue  # it is empty, because no weights were loaded from files
            file.write_bytes(change(good))
            for arguments in commands(run, picture, tmp_path / "out"):
                text = error_of(*arguments)
                assert "can be read (see above)" in text, (harm, text)
                assert f"checkpoint {run}/checkpoints/7" in capsys.readouterr().err
            # With --checkpoint, the error is one line.
            text = error_of("eval", "--checkpoint", run / "checkpoints" / "7")
            assert f"checkpoint {run}/checkpoints/7" in text and item in text, (harm, text)
    finally:
        file.write_bytes(good)
    assert not (tmp_path / "out").exists() and not (run / "eval").exists()


def sign(folder, item, content):
    """Writes an item of a checkpoint and its checksum."""
    (folder / item / "metadata").write_text(json.dumps(content))
    file = folder / "checksums" / "metadata"
    file.write_text(json.dumps(json.loads(file.read_text()) | {item: json_checksum(content)}))


def changed(config, section, **fields):
    return config | {section: {**config[section], **fields}}


def without(config, section, field):
    return config | {section: {k: v for k, v in config[section].items() if k != field}}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: {}, "seed: missing from the config"),
        (lambda c: without(c, "model", "rounds"), "model.rounds: missing from the config"),
        (lambda c: changed(c, "model", evil=1), "model.evil: unknown field"),
        (lambda c: c | {"model": []}, "model: unknown field"),
        (lambda c: c | {"a.b": 1}, "a.b"),
        (lambda c: changed(c, "eval", threshold="x"), "eval.threshold='x' must be a number"),
        (lambda c: changed(c, "eval", batch_size=True), "eval.batch_size=True must be an integer"),
        (lambda c: changed(c, "eval", splits=[["val"]]), "eval.splits"),
        (lambda c: changed(c, "eval", splits=["../../x"]), "eval.splits"),
        (lambda c: changed(c, "data", dir=None), "data.dir=None must be a string"),
        (lambda c: changed(c, "model", segmenter_rates=[[1]]), "model.segmenter_rates"),
    ],
)
def test_invalid_config_in_checkpoint(run, picture, change, text, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "7"
    sign(folder, "config", change(json.loads((folder / "config" / "metadata").read_text())))
    for arguments in commands(tmp_path / "run", picture, tmp_path / "out"):
        message = error_of(*arguments)
        assert f"{folder}: the checkpoint's config: " in message and text in message, message


def test_evaluation_does_not_build_datasets(run, tmp_path, capsys):
    """The checkpoint's raw folder is valid, but no build was requested."""
    shutil.copytree(run, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "7"
    config = json.loads((folder / "config" / "metadata").read_text())
    made = tmp_path / "made" / "by" / "it"
    sign(folder, "config", changed(config, "data", dir=str(made), raw=str(tmp_path)))
    with pytest.raises(SystemExit, match="shapes is not built") as end:
        command.main(["eval", "--workdir", str(tmp_path / "run")])
    assert "python -m tfds_refcoco build --dataset shapes" in end.value.code
    # A config named by the user does not start a build either: only training builds.
    with pytest.raises(SystemExit, match="shapes is not built"):
        command.main(["eval", "--workdir", str(tmp_path / "run"), f"--config.data.dir={made}"])
    assert not (tmp_path / "made").exists()


def test_links_out_of_a_run(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "mine").mkdir()
    for name in ("eval", "export", "figures"):
        (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
    for arguments in (
        ("eval", "--workdir", tmp_path / "run"),
        ("export", tmp_path / "run", "--format", "safetensors"),
        ("figures", "--workdir", tmp_path / "run"),
    ):
        text = error_of(*arguments)
        assert f"points outside {tmp_path}/run, to {tmp_path}/mine" in text, text
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize("value", [np.nan, 1e30])
def test_implausible_weights(run, tmp_path, monkeypatch, value, capsys):
    with checkpoint_reader.CheckpointReader(run) as reader:
        described, variables = reader.read_run(7), reader.read_variables(7)
    params = jax.tree.map(lambda p: np.full_like(p, value), variables["params"])
    state = TrainState(np.int32(1), params, variables["batch_stats"], ())
    state = jax.tree.map(jnp.asarray, state)
    unseen = lambda tree: fingerprint(tree)._replace(finite=True, plausible=True)  # noqa: E731
    with monkeypatch.context() as patch:
        for module in (checkpoints, checkpoint_reader):
            patch.setattr(module, "fingerprint", unseen)
        with checkpoints.Checkpoints(tmp_path / "run") as writer:
            batches = iter(grain.MapDataset.range(3).to_iter_dataset())
            writer.save(1, state, batches, described, described["vocabulary"])
            writer.score(1, {"oiou": 0.0})
    arguments = ("export", tmp_path / "run", "--format", "safetensors")
    assert "can be read (see above)" in error_of(*arguments)
    text = "its network is not finite" if np.isnan(value) else "its network has values above"
    assert f"checkpoints/1: {text}" in capsys.readouterr().err
    assert text in error_of("eval", "--checkpoint", tmp_path / "run/checkpoints/1")
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    arguments = ("--image", tmp_path / "photo.png", "--text", "cup", "--out", tmp_path / "out")
    assert "can be read" in error_of("predict", "--workdir", tmp_path / "run", *arguments)
    with pytest.raises(ConfigError, match=r"train\.start_from=.*run: .*can be read"):
        initialization._read_run(tmp_path / "run")
