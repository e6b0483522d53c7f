"""The report and the figures of a tiny run."""

import json
import re
import shutil

import pytest
from PIL import Image

from lts_jax.errors import ConfigError
from lts_jax.evaluation.metrics import GENERALIZED
from lts_jax.evaluation.saved import Evaluated
from lts_jax.io import drawing
from lts_jax.paper import figures
from lts_jax.reporting import charts
from lts_jax.reporting.charts import Line
from lts_jax.reporting.gallery import COLUMNS
from lts_jax.reporting.page import make_report
from tfds_refcoco import DataError


@pytest.fixture(scope="module")
def page(trained_run):
    return make_report(trained_run, "lts", most=10_000)


def gallery(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def squeezed(page):
    return re.sub(r"<small>\d+ sentences[^<]*</small>", "", page)


def test_page_is_self_contained(page, trained_run):
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "default-src 'none'" in page
    for title in (
        "Training loss",
        "Precision",
        "oIoU by threshold",
        "Objects of the same category",
        "Failures",
    ):
        assert f"<h3>{title}</h3>" in page
    metrics = json.loads((trained_run / "eval" / "testA" / "metrics.json").read_text())
    for name, part in (("0.25", metrics), ("0.4, best on val", metrics["other"])):
        row = f'<small>threshold {name}</small></th><td data-label="oIoU">{100 * part["oiou"]:.2f}'
        assert row in squeezed(page)
    data = gallery(page)
    assert data["splits"] == ["val", "testA", "testB"]
    assert data["thresholds"] == ["0.25", "0.4, best on val"]
    assert len(data["sentences"]) == data["total"]


def test_failures_are_counted_and_linked(page, trained_run):
    sentences = [dict(zip(COLUMNS, row, strict=True)) for row in gallery(page)["sentences"]]
    names = gallery(page)["failures"]
    occurring = {names[i] for s in sentences for i in s["failures"] if i >= 0}
    assert "two joined" in occurring
    for number, split in enumerate(("val", "testA", "testB")):
        file = trained_run / "eval" / split / "analysis.json"
        analysis = json.loads(file.read_text())
        for at, part in enumerate((analysis, analysis["other"])):
            of_split = [s["failures"][at] for s in sentences if s["split"] == number]
            assert {name: of_split.count(i) for i, name in enumerate(names)} == part["failures"]
            failed = sum(part["failures"].values())
            view = f"split={split}&amp;at=1" if at else f"split={split}"
            assert f'<a href="#{view}&amp;failure=any">{failed}</a>' in page
            for name, count in part["failures"].items():
                link = f'<a href="#{view}&amp;failure={name.replace(" ", "+")}">{count}</a>'
                assert (link in page) == (name in occurring)
    assert "The mask covers much of the target and as much outside it" in page


def test_break_downs_at_both_thresholds(page, trained_run):
    analysis = json.loads((trained_run / "eval" / "val" / "analysis.json").read_text())
    pairs = [part["breakdowns"]["kind"] for part in (analysis, analysis["other"])]
    for first, second in zip(*pairs, strict=True):
        numbers = f"{100 * first['miou']:.1f} / {100 * second['miou']:.1f}"
        row = rf"<th>{re.escape(first['group'])}<small>val</small></th>.*>{numbers}</td>"
        assert re.search(row, page)
    assert "In percent: at 0.25 / at 0.4, best on val." in page
    assert "As recorded in the dataset. mIoU at 0.25 with" in page


def test_a_sentence_cannot_end_the_script(trained_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run / "eval", run / "eval")
    file = run / "eval" / "val" / "predictions.json"
    entries = json.loads(file.read_text())
    entries[0]["sentence"] = "</script><b>&"
    file.write_text(json.dumps(entries))
    page = make_report(run, "lts", most=3)
    assert page.count("</script>") == 2 and "3 of" in page


def test_metrics_of_sentences_without_a_target(trained_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run / "eval" / "val", run / "eval" / "val")
    assert "N-acc" not in make_report(run, "lts", most=3)
    file = run / "eval" / "val" / "metrics.json"
    metrics = json.loads(file.read_text()) | dict.fromkeys(GENERALIZED, 0.4321)
    file.write_text(json.dumps(metrics | {"t_acc": None}))
    page = make_report(run, "lts", most=3)
    assert all(f"<th>{label}</th>" in page for label in GENERALIZED.values())
    assert page.count(">43.21<") == len(GENERALIZED) - 1


def test_dollar_is_not_math_text(tmp_path, monkeypatch):
    """The user's matplotlib settings do not affect charts either."""
    group = {"miou": 0.5, "intervals": {"miou": (0.4, 0.6)}, "sentences": 3}
    name, splits = "5$ or $\\frac{", {"a$_{$": {}, "b": {}}
    by_split = {split: {name: group} for split in splits}
    monkeypatch.setitem(charts.mpl.rcParams, "axes.grid", False)
    svg = charts.intervals([name], by_split, "miou")
    assert "5$ or $\\frac{" in svg and "a$_{$" in svg
    curves = [Line(split, [1, 2], [3, 4]) for split in splits]
    with charts.mpl.rc_context({"font.size": 30}):
        large = charts.lines(curves, x_label="step", y_label="loss", log=True)
    assert "a$_{$" in large
    assert large == charts.lines(curves, x_label="step", y_label="loss", log=True)


def test_missing_evaluations(tmp_path, trained_run):
    with pytest.raises(ConfigError, match="no evaluation"):
        make_report(tmp_path, "lts", 10)
    run = tmp_path / "run"
    shutil.copytree(trained_run / "eval" / "val", run / "eval" / "val")
    (run / "eval" / "val" / "analysis.json").write_text("{")
    with pytest.raises(ConfigError, match=r"analysis\.json: not a complete JSON"):
        make_report(run, "lts", 10)
    entries = json.loads((run / "eval" / "val" / "predictions.json").read_text())
    (run / "eval" / "val" / "predictions.json").write_text(json.dumps(entries[1:]))
    with pytest.raises(ConfigError, match="other data"):
        make_report(run, "lts", 10)


def test_a_second_mask_of_another_size(trained_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run / "eval" / "val", run / "eval" / "val")
    file = run / "eval" / "val" / "predictions.json"
    entries = json.loads(file.read_text())
    entries[1]["other"]["segmentation"] = {"size": [2, 2], "counts": "4"}
    file.write_text(json.dumps(entries))
    with pytest.raises(ConfigError, match=r"json\[1\]: other\.segmentation: size \[2, 2\]"):
        make_report(run, "lts", 10_000)


def test_files_of_two_evaluations(trained_run, tmp_path):
    """One evaluation has two thresholds, the other has one."""
    run = tmp_path / "run"
    shutil.copytree(trained_run / "eval" / "val", run / "eval" / "val")
    for name in ("analysis.json", "metrics.json"):
        file = run / "eval" / "val" / name
        content = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in content.items() if k != "other"}))
        with pytest.raises(ConfigError, match=r"json does not match \w+\.json .*; evaluate again"):
            make_report(run, "lts", 10)


def test_an_interrupted_evaluation_is_named(trained_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained_run / "eval" / "val", run / "eval" / "val")
    (run / "eval" / "testB").mkdir()
    (run / "eval" / "testB" / ".lock").touch()  # killed before writing; testA was not started
    page = make_report(run, "lts", most=3)
    message = "testA, testB omitted from the report: the evaluation is incomplete"
    assert f"WARNING: {message}" in capsys.readouterr().err
    assert "<b>Omitted: testA, testB.</b> The evaluation is missing or was interrupted." in page
    (run / "eval" / "val" / "run.json").unlink()
    with pytest.raises(
        ConfigError, match="the evaluation of testB, val was interrupted; run lts eval"
    ):
        make_report(run, "lts", most=3)


def test_splits_of_different_checkpoints_are_named(trained_run, tmp_path, capsys):
    run = tmp_path / "run"
    for name in ("val", "testA"):
        shutil.copytree(trained_run / "eval" / name, run / "eval" / name)
    file = run / "eval" / "val" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"step": 9}))
    make_report(run, "lts", most=3)
    message = "evaluated with different checkpoints: val at step 9, testA at step 7"
    assert message in capsys.readouterr().err


def test_figures(trained_run, shapes_dir, tmp_path):
    evaluated = Evaluated.read(trained_run, "val")
    ids = [entry["sent_id"] for entry in evaluated.predictions[:2]]
    for folder in (tmp_path / "lts", *(tmp_path / v / "seed0" for v in figures.VARIANTS)):
        shutil.copytree(trained_run / "eval" / "val", folder / "eval" / "val")
    moved = tmp_path / "moved"
    moved.symlink_to(shapes_dir)
    for file in (
        tmp_path / "lts" / "eval" / "val" / "run.json",
        *tmp_path.glob("*/seed0/eval/val/run.json"),
    ):
        run = json.loads(file.read_text())
        run["config"]["data"]["dir"] = "nowhere"
        file.write_text(json.dumps(run))
    with pytest.raises(DataError, match="nowhere"):
        figures.draw(tmp_path / "lts", tmp_path, "val", ids, tmp_path / "out")
    written = figures.draw(tmp_path / "lts", tmp_path, "val", ids, tmp_path / "out", moved)
    assert [path.name for path in written] == ["figure4.png", "figure5.png"]
    with Image.open(written[1]) as picture:
        assert picture.width == 6 * (drawing.PANEL + drawing.MARGIN) + 12
    with pytest.raises(ConfigError, match="--sent_ids: 7777777 is not in val"):
        figures.draw(trained_run, None, "val", [7777777], tmp_path)
