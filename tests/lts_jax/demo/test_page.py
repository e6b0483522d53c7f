"""The demo page of a tiny run in a real browser, if one is installed."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.lts_jax.helpers.browser import PHONE, WIDE, WIDER, requested, resize, start_browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(trained_run, repo_root, port, tmp_path_factory):
    """Starts the command with a separate TMPDIR, which must be empty after it exits."""
    pytest.importorskip("gradio", reason="requires pip install 'lts_jax[demo]'")
    folder = tmp_path_factory.mktemp("uploads")
    command = [sys.executable, "-m", "lts_jax", "demo", f"--workdir={trained_run}"]
    with subprocess.Popen(
        [*command, f"--port={port}"],
        cwd=repo_root,
        env={**os.environ, "TMPDIR": str(folder), "GRADIO_SHARE": "True"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == f"http://127.0.0.1:{port} - press Ctrl-C to stop\n"
        yield process
        assert any(folder.glob("lts_demo_*"))
        process.terminate()
        assert process.wait(30) == 0
        assert not any(folder.glob("lts_demo_*"))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    yield from start_browser(tmp_path_factory.mktemp("profile"))


@pytest.fixture
def browser(server, started, port):
    resize(started, WIDE)
    started.get("about:blank")
    started.get(f"http://127.0.0.1:{port}/")
    until(lambda: find(started, "#picture input[type=file]"))
    return started


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    file = tmp_path_factory.mktemp("photos") / "photo.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def find(browser, selector):
    return browser.find_element("css selector", selector)


def until(condition):
    """Waits for a condition in the browser."""
    from selenium.common.exceptions import WebDriverException

    end = time.monotonic() + 60
    while True:
        try:
            if result := condition():
                return result
        except WebDriverException:
            pass
        assert time.monotonic() < end, "the page did not change"
        time.sleep(0.05)


def ask(browser, file, lines):
    """Drops a file, types the lines and clicks; returns the result text."""
    find(browser, "#picture input[type=file]").send_keys(str(file))
    until(lambda: find(browser, "#picture img"))
    find(browser, "#lines textarea").clear()
    find(browser, "#lines textarea").send_keys(lines)
    return click(browser)


def click(browser):
    """Clicks and returns the result text once it has changed."""
    script = "return document.querySelector('#answers :is(dl, [role=alert])')?.innerText ?? ''"
    before = browser.execute_script(script)
    find(browser, "#find").click()
    return until(lambda: (text := browser.execute_script(script)) != before and text)


def shown(browser):
    """Returns the widths of the gallery's images once all are loaded."""
    script = (
        "const all = [...document.querySelectorAll('#masks img')];"
        "return all.every(i => i.complete && i.naturalWidth) && all.map(i => i.naturalWidth)"
    )
    return until(lambda: browser.execute_script(script))


def test_a_picture_and_two_sentences(browser, photo, port):
    lines = ask(browser, photo, "red star\nzebra").splitlines()
    assert lines[0] == "red star" and lines[2] == "zebra"
    assert "of the image; box: left" in lines[1] and "not in the vocabulary: zebra" in lines[3]
    assert shown(browser) == [512] * 4  # two masks, two heatmaps
    urls = requested(browser)
    own = f"http://127.0.0.1:{port}/"
    assert own in urls and not [url for url in urls if not url.startswith(own)]
    assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    # Captions end in an ellipsis; text for screen readers is clipped.
    wider = WIDER.replace(
        "e.outerHTML)", "e.outerHTML).filter(e => !/caption-label|sr-only/.test(e))"
    )
    assert browser.execute_script(wider) == []
    resize(browser, PHONE)
    assert browser.execute_script("return document.documentElement.clientWidth") == 390
    assert browser.execute_script(wider) == []


def test_an_example(browser):
    until(lambda: find(browser, "#drawn button"))
    browser.find_elements("css selector", "#drawn button")[1].click()
    value = "return document.querySelector('#lines textarea').value"
    lines = until(lambda: browser.execute_script(value)).splitlines()
    until(lambda: find(browser, "#picture img"))
    assert click(browser).splitlines()[::2] == lines


def test_file_that_is_not_an_image(browser, tmp_path, photo):
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")
    assert ask(browser, text, "star").startswith("notes.jpg: not an image that can be read")
    find(browser, "#lines textarea").clear()
    find(browser, "#lines textarea").send_keys("?")
    assert "no words" in click(browser)


def test_a_large_photo_two_users_and_many_requests(server, port, photo, tmp_path):
    """A photo of 50 megapixels and concurrent requests do not increase the memory."""
    client = pytest.importorskip("gradio_client")
    users = [
        client.Client(f"http://127.0.0.1:{port}", verbose=False, download_files=tmp_path / name)
        for name in ("a", "b")
    ]

    def ask(user, file):
        pictures, text = user.predict(client.handle_file(str(file)), "red star", api_name="/find")
        for picture in pictures:
            with Image.open(Path(picture["image"])) as image:
                image.load()
        return text

    Image.new("RGB", (8660, 5774), "red").save(tmp_path / "large.jpg")
    assert "× 5774 pixels" in ask(users[0], tmp_path / "large.jpg")
    with ThreadPoolExecutor() as pool:
        for _ in range(10):
            assert len(set(pool.map(lambda user: ask(user, photo), users))) == 1
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    for _ in range(100):
        ask(users[0], photo)
    assert process.memory_info().rss - before < 50e6


def test_page_is_not_reachable_from_other_machines(server, port):
    addresses = {
        c.laddr.ip
        for c in psutil.Process(server.pid).net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}
