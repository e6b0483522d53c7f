"""Whole runs: a tiny network on a small generated set, through the real loop."""

import itertools
import json
import re
import shutil

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

import tfds_refcoco
from lts_jax.configs import mini_refcoco as mini_refcoco_config
from lts_jax.configs.fields import plain_config
from lts_jax.data.sampler import TrainingOrder
from lts_jax.errors import ConfigError, NonFiniteLossError
from lts_jax.evaluation.run import evaluate
from lts_jax.io.files import only_run_in
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.state.train_state import TrainState
from lts_jax.training import loop, setup
from tests.lts_jax.helpers import independent, recorded
from tests.lts_jax.helpers.tiny import TINY
from tfds_refcoco.shapes import generate


def metrics_lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def final_params(workdir):
    """The arrays of the latest checkpoint, read by Orbax alone."""
    step = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    state = ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / "state")
    return step, jax.tree.leaves(state)


@pytest.mark.slow
def test_log_has_each_step_once(whole_run):
    workdir, _ = whole_run
    lines = metrics_lines(workdir)
    trained = [line["step"] for line in lines if "train/loss" in line]
    assert trained == list(range(1, trained[-1] + 1))
    evaluated = [line["step"] for line in lines if "val/oiou" in line]
    assert len(evaluated) >= 3 and evaluated[-1] == trained[-1]
    assert any((workdir / "tensorboard").iterdir())


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(
    whole_run, tiny_config_factory, tmp_path, capsys
):
    whole, results = whole_run
    config = tiny_config_factory()
    short = tiny_config_factory()
    short.train.epochs = 0.25  # ends at a step that the whole run evaluates too
    loop.train_and_evaluate(short, tmp_path)
    stopped = max(line["step"] for line in metrics_lines(tmp_path))
    # What a killed process may have logged after its last checkpoint, and half a line.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": stopped + 1, "train/loss": -1.0}) + '\n{"step": ')
    capsys.readouterr()
    resumed = loop.train_and_evaluate(config, tmp_path)
    assert f"resumed from step {stopped} of" in capsys.readouterr().out

    steps, expected = final_params(whole)
    steps_resumed, ours = final_params(tmp_path)
    assert steps == steps_resumed > stopped
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed == results
    losses = [
        {line["step"]: line["train/loss"] for line in metrics_lines(w) if "train/loss" in line}
        for w in (whole, tmp_path)
    ]
    assert losses[0] == losses[1]
    trained = [line["step"] for line in metrics_lines(tmp_path) if "train/loss" in line]
    assert trained == sorted(set(trained))


@pytest.mark.slow
def test_a_finished_run_only_evaluates(whole_run, tiny_config_factory, tmp_path, capsys):
    whole, results = whole_run
    workdir = tmp_path / "copy"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "eval")
    before = (workdir / "metrics.jsonl").read_text()
    assert loop.train_and_evaluate(tiny_config_factory(), workdir) == results
    assert (workdir / "metrics.jsonl").read_text() == before
    assert f"{workdir} is trained: step" in capsys.readouterr().out
    assert evaluate(tiny_config_factory(), workdir) == results


@pytest.mark.slow
def test_another_config_is_refused_by_field(whole_run, tiny_config_factory):
    workdir, _ = whole_run
    config = tiny_config_factory()
    config.train.learning_rate = 0.5
    config.model.fused_features = 24
    config.train.epochs = 2.0  # may change
    with pytest.raises(ValueError) as error:
        loop.train_and_evaluate(config, workdir)
    assert "train.learning_rate: 0.001 there, 0.5 now" in str(error.value)
    assert "model.fused_features: 16 there, 24 now" in str(error.value)
    assert "epochs" not in str(error.value)
    with pytest.raises(ValueError, match=r"model\.fused_features: 16 there, 24 now"):
        evaluate(config, workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value"), [("hide_sentence", True), ("resize", "squash"), ("max_words", 3)]
)
def test_evaluation_keeps_the_runs_inputs(whole_run, tiny_config_factory, field, value):
    """Else a control run's results could be overwritten by others under its name."""
    workdir, _ = whole_run
    config = tiny_config_factory()
    config.data[field] = value
    with pytest.raises(ValueError, match=rf"data\.{field}"):
        evaluate(config, workdir)


@pytest.mark.slow
def test_other_data_is_refused(whole_run, tiny_config_factory, tmp_path):
    workdir, _ = whole_run
    generate(tmp_path / "raw", scenes={"train": 24, "val": 6}, seed=1, progress=False)
    tfds_refcoco.build("shapes", tmp_path, tmp_path / "raw", progress=False)
    config = tiny_config_factory()
    config.data.dir = str(tmp_path)
    config.eval.splits = ("val",)
    with pytest.raises(ValueError, match="was trained on other data") as error:
        loop.train_and_evaluate(config, workdir)
    assert re.search(r"\n  sha256: \w{64} there, \w{64} now\n", str(error.value))


@pytest.mark.slow
def test_the_best_checkpoint_is_evaluated(whole_run, tiny_config_factory, tmp_path, capsys):
    """A worse checkpoint after the best one does not matter."""
    whole, results = whole_run
    shutil.copytree(whole, tmp_path / "run")
    with Checkpoints(tmp_path / "run") as checkpoints:
        best = checkpoints.best_step
        run = checkpoints.read_run(best)
        state = ocp.StandardCheckpointer().restore(
            tmp_path / "run" / "checkpoints" / str(best) / "state"
        )
        state["params"] = jax.tree.map(np.zeros_like, state["params"])
        iterator = iter(grain.MapDataset.range(3).to_iter_dataset())
        checkpoints.save(best + 1000, TrainState(**state), iterator, run, run["vocabulary"])
        checkpoints.score(best + 1000, {"oiou": -1.0})
        assert checkpoints.best_step == best
    capsys.readouterr()
    assert evaluate(tiny_config_factory(), tmp_path / "run") == results
    assert f"evaluating step {best}" in capsys.readouterr().out


@pytest.mark.slow
def test_bfloat16_trains(tiny_config_factory, tmp_path):
    config = tiny_config_factory()
    config.model.dtype = "bfloat16"
    config.train.epochs = 0.3
    loop.train(config, tmp_path)
    losses = [line["train/loss"] for line in metrics_lines(tmp_path) if "train/loss" in line]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert {x.dtype.name for x in final_params(tmp_path)[1]} <= {"float32", "int32"}


@pytest.mark.slow
def test_without_a_locator_there_is_no_pointing(tiny_config_factory, tmp_path, capsys):
    config = tiny_config_factory()
    config.model.locate = "none"
    config.train.location_weight = 0.0
    config.train.epochs = 0.15
    config.train.drop_epochs = ()
    config.eval.splits = ("val",)
    results = loop.train_and_evaluate(config, tmp_path)
    assert results["val"]["pointing"] is None and 0 <= results["val"]["oiou"] <= 1
    saved = json.loads((tmp_path / "eval" / "val" / "metrics.json").read_text())
    assert saved == results["val"]
    evaluated = [line for line in metrics_lines(tmp_path) if "val/oiou" in line]
    assert evaluated and all("val/pointing" not in line for line in evaluated)
    table = capsys.readouterr().out.splitlines()[-4:]
    assert dict(zip(table[0].split(), table[1].split(), strict=True))["pointing"] == "-"
    assert table[2].startswith("95 %") and table[3].split()[-1] == "-"


@pytest.mark.slow
def test_run_json_says_how_to_repeat_it(whole_run, tiny_config_factory):
    run = json.loads((whole_run[0] / "run.json").read_text())
    assert run["config"] == plain_config(tiny_config_factory())
    assert run["data"]["images"] == 24 and len(run["data"]["sha256"]) == 64
    assert run["versions"]["jax"] == jax.__version__
    assert set(run["git"]) == {"revision", "dirty"}
    assert "cpu" in run["devices"] or jax.default_backend() != "cpu"


def test_two_runs_in_one_workdir_are_refused(tiny_config_factory, tmp_path):
    with only_run_in(tmp_path), pytest.raises(ConfigError, match=f"another run .* {tmp_path}"):
        loop.train(tiny_config_factory(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with only_run_in(tmp_path):  # free again
        pass


@pytest.mark.slow
def test_a_run_is_not_made_shorter(whole_run, tiny_config_factory):
    workdir, _ = whole_run
    config = tiny_config_factory()
    config.train.epochs = 0.3
    with pytest.raises(ConfigError, match=r"was trained for \d+ steps, and train\.epochs=0\.3"):
        loop.train(config, workdir)


@pytest.mark.slow
@pytest.mark.parametrize("per_image", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_run(
    tiny_config_factory, shapes_data, tmp_path, per_image, monkeypatch
):
    batches: list = []
    recorded.record(monkeypatch.setattr, batches)
    config = tiny_config_factory()
    config.train.sentences_per_image = per_image
    config.train.batch_size = n = 8 * per_image
    config.train.learning_rate = 1e30
    config.train.log_every = 1000
    config.eval.every_epochs = 1.0
    config.train.epochs = 2.0
    with pytest.raises(NonFiniteLossError) as error:
        loop.train_and_evaluate(config, tmp_path)
    found = re.search(r"is (nan|inf) at step (\d+); .* another --workdir", str(error.value))
    split = shapes_data.split("train")
    if per_image == 1:
        rows = list(itertools.islice(order(split), n * int(found[2])))[-n:]
    else:
        index = split.index
        groups = TrainingOrder(index.ref_id, 0, "sentences", index.record, per_image)
        rows = [groups[n * (int(found[2]) - 1) + i] for i in range(n)]
    ids = split.index.sent_id[rows]
    assert str(error.value).endswith(f"sent_ids of the batch: {' '.join(map(str, ids))}")
    bad = batches[int(found[2]) - 1]
    assert len(bad["image"]) == 8 and bad["sent_id"].tolist() == ids.tolist()
    saved = [path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]
    for path in saved:  # what was saved before is whole and finite
        state = ocp.StandardCheckpointer().restore(path / "state")
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))


def order(split):
    """The rows in the order of training, as its definition says."""
    for epoch in itertools.count():
        drawn = np.random.PCG64([0, epoch]).random_raw(len(split.index.sent_id))
        yield from np.argsort(drawn, kind="stable")


def test_a_path_that_orbax_cannot_read_is_refused_at_the_start(tiny_config_factory, tmp_path):
    config = tiny_config_factory()
    config.data.dir = str(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"run\[1\]: Orbax cannot read .* with \[ \]: take"):
        loop.train_and_evaluate(config, tmp_path / "run[1]")
    assert not list(tmp_path.iterdir())


def test_a_training_of_empty_masks_alone_is_refused(tiny_config_factory, tmp_path, capsys):
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


def test_missing_data_says_where_and_how(tiny_config_factory, tmp_path):
    config = tiny_config_factory()
    config.data.dataset = "refcoco_unc"
    config.data.dir = str(tmp_path / "nowhere")
    with pytest.raises(tfds_refcoco.DataError) as error:
        loop.train_and_evaluate(config, tmp_path / "run")
    assert str(tmp_path / "nowhere" / "tfds_refcoco" / "refcoco_unc") in str(error.value)
    assert "python -m tfds_refcoco build --dataset refcoco_unc --raw" in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_real_files_train_and_are_scored_at_their_own_sizes(mini_refcoco, tmp_path):
    config = mini_refcoco_config.get_config()
    config.data.raw = str(mini_refcoco)
    config.data.dir = str(tmp_path / "data")
    config.data.image_size = 64
    config.model.update(TINY)
    config.train.epochs = 1.0
    config.train.drop_epochs = ()
    results = loop.train_and_evaluate(config, tmp_path / "run")
    scores = results["val+testA+testB"]
    assert (scores["sentences"], scores["images"]) == (96, 12)
    folder = tmp_path / "run" / "eval" / "val+testA+testB"
    predictions = json.loads((folder / "predictions.json").read_text())
    instances = json.loads((mini_refcoco / "refcoco" / "instances.json").read_text())
    sizes = {image["id"]: [image["height"], image["width"]] for image in instances["images"]}
    assert len({p["sent_id"] for p in predictions}) == 96
    for prediction in predictions:
        assert prediction["segmentation"]["size"] == sizes[prediction["image_id"]]
    # Another evaluation, of the raw polygons, says the same of every sentence.
    annotations = {entry["id"]: entry for entry in instances["annotations"]}
    sums = independent.check_run(tmp_path / "run", "val+testA+testB", annotations=annotations)
    assert sums["sentences"] == 96 and sums["pointing differs"] == 0
    assert sums["differing"] <= sums["near"] < 1e-3 * sums["pixels"]
    if not sums["near"]:
        assert sums["oiou"] == scores["oiou"]
    assert scores["miou"] == pytest.approx(sums["miou"], abs=1e-4)
    assert 0.01 < scores["oiou"] < 1
