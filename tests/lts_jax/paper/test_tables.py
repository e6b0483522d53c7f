"""Which runs a table starts, and in which order; fake results replace the training processes."""

import contextlib
import json
import sys

import pytest

from lts_jax.config.flags import load_config
from lts_jax.configs.fields import plain_config
from lts_jax.errors import ConfigError
from lts_jax.paper import runs, tables
from lts_jax.paper.tables import prepare_data  # `fake` replaces it
from tests.helpers import add_custom
from tests.lts_jax.helpers.fake_runs import CONFIG, make
from tfds_refcoco import DataError


def test_order_commands_and_files(fake, tmp_path, capsys):
    overrides = ["--config.train.batch_size=8", "--config.eval.splits=('val',)"]
    report = make(tmp_path, table=5, seeds=2, overrides=overrides)
    names = ["lts", "filters2", "filters3", "word_filter"]
    assert fake.started == [(name, seed) for seed in (0, 1) for name in names]
    assert fake.commands[5] == [
        *(sys.executable, "-m", "lts_jax.main"),
        *("--config", "configs/shapes.py:filters2"),
        *("--workdir", str(tmp_path / "filters2" / "seed1")),
        *overrides,
        "--config.seed=1",
    ]
    assert [row["variant"] for row in report["rows"]] == names
    assert report["overrides"] == overrides
    run = report["rows"][1]["runs"][1]
    assert (run["seed"], run["workdir"], run["step"]) == (1, f"{tmp_path}/filters2/seed1", 10)
    assert run["splits"]["val"]["metrics"]["miou"] == 0.25
    out = capsys.readouterr().out
    assert "0 of 8 runs are finished" in out
    assert "[2/8] filters2 seed 0: started" in out
    assert "[8/8] word_filter seed 1: done in 0.0 min, val oIoU 50.00; 8 of 8 done" in out
    assert (tmp_path / "table5.md").read_text() in out


def test_the_variants_beyond_the_paper_are_a_table(fake, tmp_path):
    report = make(tmp_path, table="beyond", seeds=1)
    names = ["lts", "pointrend", "masked", "flip", "crop", "softmax"]
    assert [row["variant"] for row in report["rows"]][:6] == names
    assert len(fake.started) == len(report["rows"]) and report["comparable"]
    assert not any(any(row["paper"].values()) for row in report["rows"])
    text = (tmp_path / "beyond.md").read_text()
    assert text.startswith("# Beyond the paper on shapes: finer edges and better grounding\n")
    assert "only the ranking of the rows" not in text


def test_a_dataset_that_is_not_built_is_one_error(fake, tmp_path, shapes_dir, monkeypatch):
    monkeypatch.setattr(tables, "prepare_data", prepare_data)
    with pytest.raises(DataError, match="refcoco_unc is not built") as error:
        make(
            tmp_path,
            overrides=["--config.data.dataset=refcoco_unc", f"--config.data.dir={tmp_path}"],
        )
    assert not fake.started and "\n" not in str(error.value)
    add_custom(tmp_path / "data", shapes_dir, {"val": range(2)}, sentences=1)
    overrides = ["--config.data.dataset=custom", f"--config.data.dir={tmp_path}/data"]
    with pytest.raises(DataError, match="custom has no split 'train'; available are val"):
        make(tmp_path, overrides=[*overrides, "--config.eval.splits=('val',)"])
    assert not fake.started


def test_finished_runs_are_not_run_again(fake, tmp_path):
    make(tmp_path, seeds=1)
    make(tmp_path, seeds=2)
    assert fake.started == [("lts", 0), ("transformer", 0), ("lts", 1), ("transformer", 1)]
    make(tmp_path, table=7, seeds=1)  # its row lts uses the same run
    assert fake.started[4:] == [("star", 0)]


def test_a_missing_split_is_evaluated(fake, tmp_path):
    make(tmp_path, table=1, overrides=["--config.eval.splits=('val',)"])
    make(tmp_path, table=1)
    assert fake.started == [("lts", 0)] * 2


def test_the_reason_for_an_omitted_run_is_logged(fake, tmp_path, capsys):
    make(tmp_path, table=1)
    (tmp_path / "lts" / "seed0" / "eval" / "testB" / "run.json").unlink()
    assert make(tmp_path, table=1, read_only=True)["rows"][0]["ours"]["val"]["oiou"] is None
    message = "lts/seed0 is omitted: the evaluation of testB is missing or was interrupted"
    assert message in capsys.readouterr().err
    path = tmp_path / "lts" / "seed0" / "eval" / "testB" / "run.json"
    other = (tmp_path / "lts" / "seed0" / "eval" / "val" / "run.json").read_text()
    path.write_text(json.dumps(json.loads(other) | {"step": 20}))
    make(tmp_path, table=1, read_only=True)
    assert "were evaluated with different checkpoints" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="cannot read checkpoints from a path with"):
        make(tmp_path / "runs[1]", table=1)


def test_a_run_with_changed_epochs_is_resumed(fake, tmp_path):
    make(tmp_path, table=1)
    make(tmp_path, table=1, overrides=["--config.train.epochs=3"])
    assert fake.started == [("lts", 0)] * 2
    make(tmp_path, table=1, overrides=["--config.train.epochs=3", "--config.data.threads=1"])
    assert len(fake.started) == 2


def test_old_and_new_evaluations_do_not_mix(fake, tmp_path):
    make(tmp_path, table=1)
    path = tmp_path / "lts" / "seed0" / "eval" / "val" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"step": 20}))
    make(tmp_path, table=1)
    assert fake.started == [("lts", 0)] * 2


def test_another_config_is_refused_by_field(fake, tmp_path):
    make(tmp_path)
    before = (tmp_path / "table4.md").read_text()
    with pytest.raises(
        ConfigError, match=r"lts/seed0 .*\n  train.batch_size: 32 in the checkpoint, 8 now"
    ):
        make(tmp_path, overrides=["--config.train.batch_size=8"])
    assert len(fake.started) == 2
    assert (tmp_path / "table4.md").read_text() == before


@pytest.mark.parametrize(("folder", "refused"), [("checkpoints/40", True), ("checkpoints", False)])
def test_another_config_is_refused_once_there_is_a_checkpoint(fake, tmp_path, folder, refused):
    workdir = tmp_path / "lts" / "seed0"
    (workdir / folder).mkdir(parents=True)
    config = plain_config(load_config(f"{CONFIG}:lts", ["--config.model.rounds=2"]))
    (workdir / "run.json").write_text(json.dumps({"config": config}))
    error = pytest.raises(ConfigError, match=r"model.rounds: 2 in the checkpoint, 1 now")
    with error if refused else contextlib.nullcontext():
        make(tmp_path, table=1)
    assert bool(fake.started) != refused


def test_other_data_is_refused(fake, tmp_path):
    make(tmp_path)
    fake.data = "4567"
    with pytest.raises(ConfigError, match=r"seed0 and .*seed1 were evaluated on different data"):
        make(tmp_path, seeds=2)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_does_not_stop_the_others(fake, tmp_path, capsys, jobs):
    fake.failing = {("filter", 0)}
    with pytest.raises(runs.RunError) as error:
        make(tmp_path, table=2, jobs=jobs)
    log = tmp_path / "filter" / "seed0" / "log.txt"
    assert str(error.value) == (
        "1 of 7 runs failed; rerun the same command to resume them. First failure: "
        f"[2/7] filter seed 0 failed with exit status 1: error: out of luck (log: {log})"
    )
    assert len(fake.started) == len(set(fake.started)) == 7
    rows = json.loads((tmp_path / "table2.json").read_text())["rows"]
    assert rows[0]["ours"]["val"]["oiou"]["n"] == 1
    assert rows[1]["ours"]["val"]["oiou"] is None
    assert "| fusion |" in capsys.readouterr().out
    fake.failing = set()
    make(tmp_path, table=2)
    assert fake.started[7:] == [("filter", 0)]


def test_a_run_that_leaves_no_results_has_failed(fake, tmp_path, monkeypatch):
    def call(_, command, log):
        log.parent.mkdir(parents=True)
        log.write_text("")
        return 0

    monkeypatch.setattr(runs.Children, "call", call)
    with pytest.raises(runs.RunError, match="lts seed 0 failed with exit status 0"):
        make(tmp_path)


def test_two_jobs(fake, tmp_path):
    make(tmp_path, table=2, seeds=2, jobs=2)
    assert fake.most == 2
    assert len(set(fake.started)) == len(fake.started) == 14
    assert {seed for _, seed in fake.started[:6]} == {0}


def test_416_is_the_full_model(repo_root, monkeypatch, tmp_path):
    monkeypatch.chdir(repo_root)
    rows = tables.plan("configs/refcoco.py", 6, 2, [], tmp_path)
    assert rows["size416"][1].workdir == tmp_path / "lts" / "seed1"
    assert rows["size448"][1].workdir == tmp_path / "size448" / "seed1"
    # The full model on shapes is smaller.
    rows = tables.plan(CONFIG, 6, 1, [], tmp_path)
    assert rows["size416"][0].workdir == tmp_path / "size416" / "seed0"
    assert rows["size416"][0].config.data.image_size == 416


def test_an_override_must_not_make_rows_equal(repo_root, monkeypatch, tmp_path):
    monkeypatch.chdir(repo_root)
    with pytest.raises(ConfigError, match="rows lts and filters2 of Table 5 are the same run"):
        tables.plan(CONFIG, 5, 1, ["--config.model.rounds=2"], tmp_path)
