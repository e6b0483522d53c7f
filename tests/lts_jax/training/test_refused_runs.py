"""Runs that are rejected at the start or stopped with an error message."""

import itertools
import json
import re

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from PIL import Image

import tfds_refcoco
from lts_jax.data.sampler import TrainingOrder
from lts_jax.errors import ConfigError, NonFiniteLossError
from lts_jax.evaluation.run import evaluate
from lts_jax.experiment.experiment import Experiment
from lts_jax.io.files import only_run_in
from lts_jax.training import loop, setup
from tests.lts_jax.helpers import recorded
from tfds_refcoco.shapes import generate


@pytest.mark.slow
def test_another_config_is_rejected_by_field(whole_run, tiny_config_factory):
    workdir, _ = whole_run
    config = tiny_config_factory()
    config.train.learning_rate = 0.5
    config.model.fused_features = 24
    config.train.epochs = 2.0  # may change
    with pytest.raises(ValueError) as error:
        loop.train_and_evaluate(config, workdir)
    assert "train.learning_rate: 0.001 in the checkpoint, 0.5 now" in str(error.value)
    assert "model.fused_features: 16 in the checkpoint, 24 now" in str(error.value)
    assert "epochs" not in str(error.value)
    with pytest.raises(ValueError, match=r"model\.fused_features: 16 in the checkpoint, 24 now"):
        evaluate(config, workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value"), [("hide_sentence", True), ("resize", "squash"), ("max_words", 3)]
)
def test_evaluation_keeps_the_runs_inputs(whole_run, tiny_config_factory, field, value):
    """Otherwise the results of a control run could be overwritten."""
    workdir, _ = whole_run
    config = tiny_config_factory()
    config.data[field] = value
    with pytest.raises(ValueError, match=rf"data\.{field}"):
        evaluate(config, workdir)


@pytest.mark.slow
def test_other_data_is_rejected(whole_run, tiny_config_factory, tmp_path):
    workdir, _ = whole_run
    generate(tmp_path / "raw", scenes={"train": 24, "val": 6}, seed=1, progress=False)
    tfds_refcoco.build("shapes", tmp_path, tmp_path / "raw", progress=False)
    config = tiny_config_factory()
    config.data.dir = str(tmp_path)
    config.eval.splits = ("val",)
    with pytest.raises(ValueError, match="was trained on other data") as error:
        loop.train_and_evaluate(config, workdir)
    assert re.search(r"\n  sha256: \w{64} in the checkpoint, \w{64} now\n", str(error.value))


def test_two_runs_in_one_workdir_are_rejected(tiny_config_factory, tmp_path):
    with only_run_in(tmp_path), pytest.raises(ConfigError, match=f"another run .* {tmp_path}"):
        loop.train(tiny_config_factory(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with only_run_in(tmp_path):  # the lock was released
        pass


@pytest.mark.slow
def test_a_run_is_not_made_shorter(whole_run, tiny_config_factory):
    workdir, _ = whole_run
    config = tiny_config_factory()
    config.train.epochs = 0.3
    with pytest.raises(ConfigError, match=r"was trained for \d+ steps, but train\.epochs=0\.3"):
        loop.train(config, workdir)


@pytest.mark.slow
@pytest.mark.parametrize("per_image", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_run(
    tiny_config_factory, shapes_data, tmp_path, per_image, monkeypatch
):
    batches: list = []
    recorded.record(monkeypatch.setattr, batches)
    monkeypatch.setattr(Experiment, "schedule", staticmethod(optax.constant_schedule(1e30)))
    config = tiny_config_factory()
    config.train.sentences_per_image = per_image
    config.train.batch_size = n = 8 * per_image
    config.train.log_every = 1000
    config.eval.every_epochs = 1.0
    config.train.epochs = 2.0
    with pytest.raises(NonFiniteLossError) as error:
        loop.train_and_evaluate(config, tmp_path)
    match = re.search(r"is (nan|inf) at step (\d+); .* another --workdir", str(error.value))
    split = shapes_data.split("train")
    if per_image == 1:
        rows = list(itertools.islice(order(split), n * int(match[2])))[-n:]
    else:
        index = split.index
        groups = TrainingOrder(index.ref_id, 0, "sentences", index.record, per_image)
        rows = [groups[n * (int(match[2]) - 1) + i] for i in range(n)]
    ids = split.index.sent_id[rows]
    assert str(error.value).endswith(f"sent_ids of the batch: {' '.join(map(str, ids))}")
    bad = batches[int(match[2]) - 1]
    assert len(bad["image"]) == 8 and bad["sent_id"].tolist() == ids.tolist()
    saved = [path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]
    for path in saved:  # earlier checkpoints are complete and finite
        state = ocp.StandardCheckpointer().restore(path / "state")
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))


def order(split):
    """Yields the rows in training order, according to its definition."""
    for epoch in itertools.count():
        drawn = np.random.PCG64([0, epoch]).random_raw(len(split.index.sent_id))
        yield from np.argsort(drawn, kind="stable")


def test_path_that_orbax_cannot_read_is_rejected_at_the_start(tiny_config_factory, tmp_path):
    config = tiny_config_factory()
    config.data.dir = str(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"run\[1\]: Orbax cannot read .* with \[ \]: rename"):
        loop.train_and_evaluate(config, tmp_path / "run[1]")
    assert not list(tmp_path.iterdir())


def test_training_on_only_empty_masks_is_rejected(tiny_config_factory, tmp_path, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    images = []
    for split in ("train", "val", "test"):
        for number in range(8):
            name = f"{split}{number}.png"
            noise = np.random.default_rng(len(images)).integers(0, 255, (20, 30, 3), np.uint8)
            Image.fromarray(noise).save(raw / name)
            objects = [{"mask": {"polygons": [[0, 0, 9, 0, 9, 9]]}}] if split == "test" else []
            sentence = {"text": "nothing here", "objects": list(range(len(objects)))}
            images.append(
                {"file": name, "split": split, "objects": objects, "sentences": [sentence]}
            )
    (raw / "custom.json").write_text(json.dumps({"images": images}))
    tfds_refcoco.build("custom", tmp_path / "data", raw, progress=False)
    config = tiny_config_factory()
    config.data.dataset, config.data.dir = "custom", str(tmp_path / "data")
    config.eval.splits = ("val",)
    with pytest.raises(ConfigError, match=r"data\.train_split=train: all 8 masks are empty"):
        loop.train(config, tmp_path / "run")
    dataset = tfds_refcoco.open_dataset(tmp_path / "data", "custom")
    setup._check_targets(dataset.split("test"), dataset.split("val"), config.data)
    assert "eval.best_split val: all masks are empty" in capsys.readouterr().err


def test_missing_data_error_names_path_and_command(tiny_config_factory, tmp_path):
    config = tiny_config_factory()
    config.data.dataset = "refcoco_unc"
    config.data.dir = str(tmp_path / "nowhere")
    with pytest.raises(tfds_refcoco.DataError) as error:
        loop.train_and_evaluate(config, tmp_path / "run")
    assert str(tmp_path / "nowhere" / "tfds_refcoco" / "refcoco_unc") in str(error.value)
    assert "python -m tfds_refcoco build --dataset refcoco_unc --raw" in str(error.value)
    assert not (tmp_path / "run").exists()
