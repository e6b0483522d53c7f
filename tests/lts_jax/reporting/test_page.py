"""The report and the figures of a tiny run; the page in a real browser where there is one."""

import json
import re
import shutil
import time

import pytest
from PIL import Image

from lts_jax.errors import ConfigError
from lts_jax.evaluation.metrics import GENERALIZED
from lts_jax.evaluation.saved import Evaluated
from lts_jax.io import drawing
from lts_jax.paper import figures
from lts_jax.reporting import charts
from lts_jax.reporting.charts import Line
from lts_jax.reporting.page import make_report
from tfds_refcoco import DataError


@pytest.fixture(scope="module")
def page(trained_run):
    return make_report(trained_run, "lts", most=10_000)


def squeezed(page):
    return re.sub(r"<small>\d+ sentences[^<]*</small>", "", page)


def test_it_holds_everything_and_asks_for_nothing(page, trained_run):
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "default-src 'none'" in page
    for title in ("Training loss", "Precision", "oIoU by threshold", "Rivals", "Category"):
        assert f"<h3>{title}</h3>" in page
    metrics = json.loads((trained_run / "eval" / "testA" / "metrics.json").read_text())
    assert f"<small>threshold 0.25</small></th><td>{100 * metrics['oiou']:.2f}" in squeezed(page)
    best = f"<small>threshold 0.4, best on val</small></th><td>{100 * metrics['other']['oiou']:.2f}"
    assert best in squeezed(page)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert data["splits"] == ["val", "testA", "testB"]
    assert len(data["sentences"]) == data["total"]


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
    found = json.loads(file.read_text()) | dict.fromkeys(GENERALIZED, 0.4321)
    file.write_text(json.dumps(found | {"t_acc": None}))
    page = make_report(run, "lts", most=3)
    assert all(f"<th>{label}</th>" in page for label in GENERALIZED.values())
    assert page.count("<td>43.21") == len(GENERALIZED) - 1


def test_a_dollar_is_no_mathematics(tmp_path, monkeypatch):
    """Nor do a user's own settings of matplotlib change a chart."""
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
    with pytest.raises(ConfigError, match="nothing evaluated"):
        make_report(tmp_path, "lts", 10)
    run = tmp_path / "run"
    shutil.copytree(trained_run / "eval" / "val", run / "eval" / "val")
    (run / "eval" / "val" / "analysis.json").write_text("{")
    with pytest.raises(ConfigError, match=r"analysis\.json: no whole JSON"):
        make_report(run, "lts", 10)
    entries = json.loads((run / "eval" / "val" / "predictions.json").read_text())
    (run / "eval" / "val" / "predictions.json").write_text(json.dumps(entries[1:]))
    with pytest.raises(ConfigError, match="other data"):
        make_report(run, "lts", 10)


def test_files_of_two_evaluations(trained_run, tmp_path):
    """One of them at two thresholds, the other one not."""
    run = tmp_path / "run"
    shutil.copytree(trained_run / "eval" / "val", run / "eval" / "val")
    for name in ("analysis.json", "metrics.json"):
        file = run / "eval" / "val" / name
        content = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in content.items() if k != "other"}))
        with pytest.raises(ConfigError, match=r"json: not of \w+\.json beside it; evaluate again"):
            make_report(run, "lts", 10)


def test_an_interrupted_evaluation_is_named(trained_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained_run / "eval" / "val", run / "eval" / "val")
    (run / "eval" / "testB").mkdir()
    (run / "eval" / "testB" / ".lock").touch()  # killed before it wrote; testA was not begun
    page = make_report(run, "lts", most=3)
    said = "not in the report: the evaluation of testA, testB is not complete"
    assert f"WARNING: {said}" in capsys.readouterr().err
    assert "<b>Without testA, testB</b>, whose evaluation is missing or was interrupted" in page
    (run / "eval" / "val" / "run.json").unlink()
    with pytest.raises(ConfigError, match="the evaluation of testB, val was interrupted; lts eval"):
        make_report(run, "lts", most=3)


def test_splits_of_different_checkpoints_are_named(trained_run, tmp_path, capsys):
    run = tmp_path / "run"
    for name in ("val", "testA"):
        shutil.copytree(trained_run / "eval" / name, run / "eval" / name)
    file = run / "eval" / "val" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"step": 9}))
    make_report(run, "lts", most=3)
    said = "evaluated with different checkpoints: val at step 9, testA at step 7"
    assert said in capsys.readouterr().err


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


@pytest.fixture
def browser(tmp_path):
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no chromium and chromedriver here; apt-get install chromium-driver has both")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for name in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    yield browser
    browser.quit()


def drawn(browser):
    end = time.monotonic() + 20
    while browser.execute_script("return document.body.dataset.drawn") != "yes":
        assert time.monotonic() < end, "the gallery was not drawn"
        time.sleep(0.05)
    return [e.text for e in browser.find_elements("css selector", ".card b")]


@pytest.mark.slow
def test_in_a_browser(page, browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    browser.get(file.as_uri())
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    texts = [s[2] for s in data["sentences"]]
    assert drawn(browser) == texts[:12]
    find = lambda name: browser.find_element("id", name)  # noqa: E731
    find("next").click()
    assert drawn(browser) == texts[12:24]
    assert find("where").text.startswith("page 2 of ")
    word = browser.find_element("css selector", "button.word")
    name = word.text
    word.click()
    kept = [t for t in texts if any(w.startswith(name) for w in t.split())]
    assert drawn(browser) == kept[:12]
    assert find("where").text.endswith(f" {len(kept)} sentences") and 0 < len(kept) < len(texts)
    word.click()
    browser.find_element("css selector", "#sort option[value=worst]").click()
    drawn(browser)
    scores = [float(e.text.split()[1]) for e in browser.find_elements("css selector", ".score")]
    assert scores == sorted(scores)
    assert scores[0] == pytest.approx(min(s[4] for s in data["sentences"]), abs=1e-3)
    # A decoded mask has as many pixels as our decoder says.
    wanted = browser.execute_script(
        "return data.masks.slice(0, 20).map((m, i) => { const s = data.sentences.find("
        "s => s[6] === i || s[7] === i), [, w, h] = data.images[s[5]];"
        "return [m, w, h, decode(m, w, h).reduce((a, b) => a + b, 0)]; })"
    )
    from pycocotools import mask as coco

    for counts, w, h, pixels in wanted:
        assert coco.area({"size": [h, w], "counts": counts.encode()}) == pixels
    messages = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    urls = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    inside = ("data:", "file:", "chrome:", "chrome-untrusted:")
    assert file.as_uri() in urls and not [url for url in urls if not url.startswith(inside)]
    assert not browser.get_log("browser")
