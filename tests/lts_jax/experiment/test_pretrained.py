"""Trained networks from folders and from the Hugging Face Hub."""

import json
import shutil

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors
from safetensors.numpy import load_file, save_file

import lts_jax
from lts_jax.cli import command
from lts_jax.distributed.mesh import one_device
from lts_jax.errors import ConfigError
from lts_jax.experiment.pretrained import load_pretrained
from lts_jax.experiment.restore import restore
from lts_jax.export.bundle import export_run


@pytest.fixture(scope="module")
def hub_folder(trained_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("hub") / "tiny"
    export_run(trained_run, "hub", out)
    return out


@pytest.fixture
def copied(hub_folder, tmp_path):
    return shutil.copytree(hub_folder, tmp_path / "model")


def test_a_hub_folder_contains_the_network_in_float16(trained_run, hub_folder):
    assert {path.name for path in hub_folder.iterdir()} == {
        *("config.json", "model.safetensors", "vocabulary.json", "preprocessing.json"),
        "README.md",
    }
    run = restore(trained_run, one_device())
    trained = load_pretrained(hub_folder, one_device())
    assert trained.step == run.step and trained.data == run.data
    assert trained.experiment.vocabulary.words == run.experiment.vocabulary.words
    assert trained.experiment.config.model == run.experiment.config.model
    stored = load_file(hub_folder / "model.safetensors")
    for name, value in run.arrays.items():
        kind = np.float16 if value.ndim > 1 else np.float32
        assert stored[name].dtype == kind, name
        np.testing.assert_array_equal(trained.arrays[name], value.astype(kind).astype(np.float32))
    described = json.loads((hub_folder / "config.json").read_text())
    assert described["scores"]["val"]["sentences"] > 0
    assert "/" not in described["config"]["data"]["dir"]  # private paths are removed
    card = (hub_folder / "README.md").read_text()
    assert described["sha256"] in card and card.startswith("---\nlibrary_name: lts_jax\n")
    assert "| val at 0.25 |" in card and "| val at 0.4, best on val |" in card


def test_every_kind_of_folder_predicts_the_same(trained_run, hub_folder, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    export_run(trained_run, "safetensors", tmp_path / "tensors")
    expected = lts_jax.Predictor(trained_run)(image, "red circle")[0].probability
    for reference, tolerance in ((str(trained_run), 0), (tmp_path / "tensors", 0), (hub_folder, 1)):
        result = lts_jax.Predictor.from_pretrained(reference)(image, "red circle")[0].probability
        np.testing.assert_allclose(result, expected, atol=5e-3 * tolerance)
    loose = load_pretrained(hub_folder, one_device(), ["--config.eval.threshold=0.75"])
    assert loose.experiment.config.eval.threshold == 0.75
    best = load_pretrained(hub_folder, one_device(), ["--config.eval.threshold=val"])
    assert [str(x) for x in best.experiment.thresholds] == ["0.4, best on val", "0.25"]


def test_a_folder_without_the_best_threshold(copied):
    file = copied / "config.json"
    described = json.loads(file.read_text())
    file.write_text(json.dumps(described | {"best_threshold": None}))
    assert load_pretrained(copied, one_device()).experiment.best_threshold is None
    with pytest.raises(ConfigError, match=r"config\.json contains no best threshold on val"):
        load_pretrained(copied, one_device(), ["--config.eval.threshold=val"])


def test_all_files_are_downloaded_from_one_commit(hub_folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    asked = []

    def download(repository, name, revision=None):
        asked.append((repository, name, revision))
        if repository != "somebody/tiny":
            raise errors.LocalEntryNotFoundError("offline")
        (cache / "c0ffee").mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(hub_folder / name, cache / "c0ffee" / name))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    trained = load_pretrained("hf://somebody/tiny@main", one_device())
    assert trained.step == 7
    assert asked == [
        ("somebody/tiny", "config.json", "main"),
        ("somebody/tiny", "model.safetensors", "c0ffee"),
        ("somebody/tiny", "vocabulary.json", "c0ffee"),
    ]
    with pytest.raises(ConfigError, match=r"--model=hf://no/net: config\.json is not in the cache"):
        load_pretrained("hf://no/net", one_device())


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    import hashlib

    described = json.loads((folder / "config.json").read_text())
    data = (folder / "model.safetensors").read_bytes()
    described["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "config.json").write_text(json.dumps(described))


NAME = "params/fusion/text/kernel"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), f"{NAME} is missing"),
        (lambda t: t.update(more=np.zeros(3, np.float32)), "more is not an array of this network"),
        (lambda t: t.update({NAME: t[NAME][1:]}), f"{NAME}: float16 .*, expected"),
        (lambda t: t.update({NAME: t[NAME].astype(np.int32)}), f"{NAME}: int32"),
        (lambda t: t.update({NAME: np.nan * t[NAME]}), f"{NAME} has values that are not finite"),
    ],
)
def test_other_arrays_are_refused(copied, change, message):
    change_weights(copied, change)
    with pytest.raises(ConfigError, match=message):
        load_pretrained(copied, one_device())


def test_damaged_folders_are_refused(copied, tmp_path):
    weights = copied / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ConfigError, match=r"model\.safetensors: SHA-256 is .* download the folder"):
        load_pretrained(copied, one_device())
    weights.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_pretrained(copied, one_device())
    (copied / "vocabulary.json").write_text('["red", "red"]')
    with pytest.raises(ConfigError, match="a word is listed more than once"):
        load_pretrained(copied, one_device())
    described = json.loads((copied / "config.json").read_text())
    described["config"]["model"]["backbone"] = "vgg"
    (copied / "config.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match=r"config\.json: config: model\.backbone='vgg'"):
        load_pretrained(copied, one_device())
    (copied / "config.json").unlink()
    (copied / "model.onnx").touch()
    with pytest.raises(ConfigError, match=r"config\.json.*; to run model\.onnx, use loader\.py"):
        load_pretrained(copied, one_device())
    with pytest.raises(ConfigError, match=r"--model=.*nowhere is neither a folder nor"):
        load_pretrained(str(tmp_path / "nowhere"), one_device())


def test_missing_fields_of_older_configs_have_their_defaults(copied):
    described = json.loads((copied / "config.json").read_text())
    del described["config"]["model"]["coordinates"], described["config"]["eval"]["gallery"]
    (copied / "config.json").write_text(json.dumps(described))
    config = load_pretrained(copied, one_device()).experiment.config
    assert config.model.coordinates is False and config.eval.gallery == 16
    described["config"]["model"]["colour"] = 1
    (copied / "config.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match=r"model\.colour: unknown field"):
        load_pretrained(copied, one_device())


def test_the_command_predicts_with_a_folder(hub_folder, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    flags = ["predict", "--image", str(tmp_path / "a.png"), "--text", "red circle"]
    flags += ["--model", str(hub_folder), "--out", str(tmp_path / "out")]
    command.main([*flags, "--config.eval.threshold=0.1"])
    [entry] = json.loads((tmp_path / "out/predictions.json").read_text())
    assert {"mask", "overlay"} <= set(entry["files"])
    for more, message in (
        (["--workdir", "runs/a"], "--model cannot be combined with --workdir"),
        (["--config.model.rounds=2"], r"--config\.model\.rounds: .* only fields of data and eval"),
    ):
        with pytest.raises(SystemExit, match=message):
            command.main([*flags, *more])
