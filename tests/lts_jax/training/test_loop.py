"""Complete runs of a tiny network on a small generated dataset, with the real loop."""

import itertools
import json
import re
import shutil
import struct
import time

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tensorboardX.proto.event_pb2 import Event

from benchmarks import kill_and_resume
from lts_jax.configs import mini_refcoco as mini_refcoco_config
from lts_jax.configs.fields import plain_config
from lts_jax.evaluation.run import evaluate
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.state.train_state import TrainState
from lts_jax.training import loop
from tests.lts_jax.helpers import independent
from tests.lts_jax.helpers.tiny import TINY


def metrics_lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def final_params(workdir):
    """Returns the arrays of the latest checkpoint, read with plain Orbax."""
    step = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    state = ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / "state")
    return step, jax.tree.leaves(state)


def events(path):
    """Yields tag, image and text of each event in a TensorBoard file."""
    data, place = path.read_bytes(), 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        event = Event.FromString(data[place + 12 : place + 12 + length])
        place += 16 + length
        for value in event.summary.value:
            text = "".join(part.decode() for part in value.tensor.string_val)
            yield value.tag, value.image.encoded_image_string, text


@pytest.mark.slow
def test_log_has_each_step_once(whole_run):
    workdir, _ = whole_run
    lines = metrics_lines(workdir)
    trained = [line["step"] for line in lines if "train/loss" in line]
    assert trained == list(range(1, trained[-1] + 1))
    evaluated = [line["step"] for line in lines if "val/oiou" in line]
    assert len(evaluated) >= 3 and evaluated[-1] == trained[-1]
    files = sorted((workdir / "tensorboard").iterdir())
    assert [path.name.split(".")[0] for path in files] == ["events", "pictures"]
    shown = [value for path in files for value in events(path)]
    (text,) = [tensor for tag, _, tensor in shown if tag == "config/text_summary"]
    assert '"dataset": "shapes"' in text
    pictures = {tag: image for tag, image, _ in shown if image}
    assert pictures == {
        f"{split}/gallery": (workdir / "eval" / split / "gallery.png").read_bytes()
        for split in ("val", "testA", "testB")
    }


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(
    whole_run, tiny_config_factory, tmp_path, capsys
):
    whole, results = whole_run
    config = tiny_config_factory()
    short = tiny_config_factory()
    short.train.epochs = 0.25  # ends at a step that the full run also evaluates
    loop.train_and_evaluate(short, tmp_path)
    stopped = max(line["step"] for line in metrics_lines(tmp_path))
    # Lines logged after the last checkpoint of a killed process, the last one incomplete.
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
    assert f"{workdir} is already trained: step" in capsys.readouterr().out
    assert evaluate(tiny_config_factory(), workdir) == results


@pytest.mark.slow
def test_the_best_checkpoint_is_evaluated(whole_run, tiny_config_factory, tmp_path, capsys):
    """A later, worse checkpoint is ignored."""
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
def test_a_clock_that_goes_backwards(whole_run, tiny_config_factory, tmp_path, monkeypatch):
    start, calls = time.time(), itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: start - 10 * next(calls))
        loop.train_and_evaluate(tiny_config_factory(), tmp_path)
    comparison = kill_and_resume.compare(whole_run[0], tmp_path)
    assert comparison.pop("stray_files") == [] and all(comparison.values()), comparison


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
    table = capsys.readouterr().out.splitlines()[-6:]  # scores and intervals at two thresholds
    for head, *rows in (table[:3], table[3:]):
        names = head.removeprefix("95 %").removeprefix("%").split()
        for row in rows:
            values = re.sub(r"^val at [\d.]+(, best on val)?", "", row).split()
            assert dict(zip(names, values, strict=True))["pointing"] == "-"


@pytest.mark.slow
def test_run_json_records_how_to_repeat_it(whole_run, tiny_config_factory):
    run = json.loads((whole_run[0] / "run.json").read_text())
    assert run["config"] == plain_config(tiny_config_factory())
    assert run["data"]["images"] == 24 and len(run["data"]["sha256"]) == 64
    assert run["versions"]["jax"] == jax.__version__
    assert set(run["git"]) == {"revision", "dirty"}
    assert "cpu" in run["devices"] or jax.default_backend() != "cpu"


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
    # An independent evaluation of the raw polygons gives the same result for every sentence.
    annotations = {entry["id"]: entry for entry in instances["annotations"]}
    sums = independent.check_run(tmp_path / "run", "val+testA+testB", annotations=annotations)
    assert sums["sentences"] == 96 and sums["pointing differs"] == 0
    assert sums["differing"] <= sums["near"] < 1e-3 * sums["pixels"]
    if not sums["near"]:
        assert sums["oiou"] == scores["oiou"]
    assert scores["miou"] == pytest.approx(sums["miou"], abs=1e-4)
    assert 0.01 < scores["oiou"] < 1
