"""The report of a tiny run in a real browser, if one is installed."""

import time

import numpy as np
import pytest
from pycocotools import mask as coco

from lts_jax.io import colours
from lts_jax.reporting.gallery import COLUMNS
from lts_jax.reporting.page import make_report
from tests.lts_jax.helpers.browser import PHONE, WIDE, WIDER, requested, resize, start_browser
from tests.lts_jax.reporting.test_page import gallery

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(trained_run):
    return make_report(trained_run, "lts", most=10_000)


@pytest.fixture(scope="module")
def sentences(page):
    return [dict(zip(COLUMNS, row, strict=True)) for row in gallery(page)["sentences"]]


@pytest.fixture(scope="module")
def file(page, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    yield from start_browser(tmp_path_factory.mktemp("profile"))


@pytest.fixture
def browser(started, file):
    show(started, file)
    return started


def show(browser, file, view="", size=WIDE):
    """Reloads the page."""
    resize(browser, size)
    browser.get("about:blank")
    browser.get(file.as_uri() + view)


def drawn(browser):
    """Returns the sentences of the current page."""
    end = time.monotonic() + 20
    while browser.execute_script("return document.body.dataset.drawn") != "yes":
        assert time.monotonic() < end, "the gallery was not drawn"
        time.sleep(0.05)
    return [e.text for e in browser.find_elements("css selector", "#cards .card b")]


def find(browser, selector):
    return browser.find_element("css selector", selector)


def press(browser, key):
    from selenium.webdriver.common.keys import Keys

    find(browser, "body").send_keys(getattr(Keys, key))
    return drawn(browser)


def test_page_sends_no_requests(browser, file):
    drawn(browser)
    urls = requested(browser)
    assert file.as_uri() in urls and not [u for u in urls if not u.startswith("file:")]
    assert not browser.get_log("browser")


def test_pages_words_and_order(browser, sentences):
    texts = [s["text"] for s in sentences]
    assert drawn(browser) == texts[:12]
    for turn in ("#next", "#next2"):  # the pagers above and below
        find(browser, turn).click()
    assert drawn(browser) == texts[24:36]
    pages = -(-len(texts) // 12)
    for where in ("#where", "#where2"):
        assert find(browser, where).text == f"page 3 of {pages}, {len(texts)} sentences"
    assert press(browser, "ARROW_LEFT") == texts[12:24]
    assert press(browser, "ARROW_RIGHT") == texts[24:36]
    word = find(browser, "button.word")
    name = word.text
    word.click()
    kept = [t for t in texts if any(w.startswith(name) for w in t.split())]
    assert drawn(browser) == kept[:12] and 0 < len(kept) < len(texts)
    assert find(browser, "#where").text.endswith(f" {len(kept)} sentences")
    word.click()
    find(browser, "#sort option[value=worst]").click()
    drawn(browser)
    cards = browser.find_elements("css selector", "#cards .score")
    scores = [float(e.text.split()[1]) for e in cards]
    assert scores == sorted(scores)
    assert scores[0] == pytest.approx(min(s["ious"][0] for s in sentences), abs=1e-3)


def test_failures_kinds_and_thresholds(browser, file, sentences, page):
    names, kinds = gallery(page)["failures"], gallery(page)["kinds"]
    occurring = sorted({names[i] for s in sentences for i in s["failures"] if i >= 0})
    for at in (0, 1):
        find(browser, f"#at option[value='{at}']").click()
        for name in occurring:
            number = names.index(name)
            find(browser, f"#failure option[value='{name}']").click()
            wanted = [s["text"] for s in sentences if s["failures"][at] == number]
            assert drawn(browser) == wanted[:12]
            # The URL opens the same view.
            address = find(browser, "#link").get_attribute("href")
            assert address == browser.execute_script("return location.href")
        find(browser, "#failure option[value='']").click()
    kind = next(k for k in kinds if k.startswith("relation: "))
    find(browser, f"#kind option[value='{kind}']").click()
    assert drawn(browser) == [s["text"] for s in sentences if kinds.index(kind) in s["kinds"]][:12]
    shown = find(browser, "#link").get_attribute("href")
    assert shown.endswith(f"#at=1&kind={kind.replace(': ', '%3A+').replace(' ', '+')}")
    before = drawn(browser)
    show(browser, file, shown.partition("#")[1] + shown.partition("#")[2])
    assert drawn(browser) == before and find(browser, "#at").get_attribute("value") == "1"
    # A link in the table of failures.
    link = find(browser, "a[href='#split=testA&at=1&failure=any']")
    count = link.text
    link.click()
    drawn(browser)
    assert find(browser, "#where").text.endswith(f" {count} sentences")
    assert find(browser, "#split").get_attribute("value") == "testA"


def test_examples_of_failures_are_drawn(browser, sentences):
    drawn(browser)
    for box in browser.find_elements("css selector", ".examples"):
        number = int(box.get_attribute("data-failure"))
        of_kind = {f"{s['text']}, IoU" for s in sentences if s["failures"][0] == number}
        captions = [e.text.rpartition(" ")[0] for e in box.find_elements("css selector", "figure")]
        assert captions and set(captions) <= of_kind and len(captions) == min(6, len(of_kind))


def test_a_picture_is_enlarged(browser, file, sentences):
    drawn(browser)
    small = find(browser, "#cards .card:nth-child(2) canvas")
    width = small.size["width"]
    small.click()
    drawn(browser)
    assert find(browser, "#enlarged b").text == sentences[1]["text"]
    assert find(browser, "#enlarged canvas").size["width"] > 1.5 * width
    press(browser, "ARROW_RIGHT")
    assert find(browser, "#enlarged b").text == sentences[2]["text"]
    assert find(browser, "#position").text == f"3 of {len(sentences)}"
    view = browser.execute_script("return location.hash")
    assert view == f"#sentence=val+{sentences[2]['id']}"
    press(browser, "ESCAPE")
    assert not find(browser, "#large").is_displayed()
    show(browser, file, view)
    drawn(browser)
    assert find(browser, "#enlarged b").text == sentences[2]["text"]
    find(browser, "#close").click()
    assert not find(browser, "#large").is_displayed()


def test_masks_and_heatmaps_are_what_they_are_elsewhere(browser, page):
    """Decoded masks agree with pycocotools, and heatmap colours with `lts_jax.io.colours`."""
    drawn(browser)
    data = gallery(page)
    columns = {name: i for i, name in enumerate(COLUMNS)}
    for row in data["sentences"][:20]:
        _, w, h = data["images"][row[columns["image"]]]
        for number in (row[columns["truth"]], *row[columns["predictions"]]):
            counts = data["masks"][number]
            script = "return decode(...arguments).reduce((a, b) => a + b, 0)"
            pixels = browser.execute_script(script, counts, w, h)
            assert coco.area({"size": [h, w], "counts": counts.encode()}) == pixels
    script = """
        const canvases = [0, 1, 2].map(() => document.createElement("canvas"));
        for (const canvas of canvases) [canvas.width, canvas.height] = [256, 1];
        const [heat, picture, out] = canvases.map(canvas => canvas.getContext("2d"));
        for (let k = 0; k < 256; k++) {
          heat.fillStyle = `rgb(${k}, ${k}, ${k})`;
          heat.fillRect(k, 0, 1, 1);
        }
        picture.fillStyle = "rgb(90, 120, 60)";
        picture.fillRect(0, 0, 256, 1);
        warm(out, canvases[1], canvases[0], 256, 1);
        return [...out.getImageData(0, 0, 256, 1).data];
    """
    pixels = browser.execute_script(script)
    image = np.zeros((1, 256, 3), np.uint8) + np.array((90, 120, 60), np.uint8)
    ours = colours.overlay(image, np.arange(256)[None] / 255)
    theirs = np.array(pixels).reshape(1, 256, 4)[..., :3]
    assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_nothing_scrolls_sideways_on_a_telephone(browser, file):
    """Checks the page and its parts with everything unfolded, and the enlarged sentence."""
    show(browser, file, size=PHONE)
    drawn(browser)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.clientWidth") == 390
    assert browser.execute_script(WIDER) == []
    browser.execute_script("document.querySelector('#cards canvas').click()")
    drawn(browser)
    assert find(browser, "#large").is_displayed()
    assert browser.execute_script(WIDER) == []
