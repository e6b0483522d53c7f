"""Headless Chromium, for tests of pages."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

WIDE, PHONE = (1280, 900), (390, 844)  # width and height of the window


def start_browser(profile: Path) -> Iterator[Any]:
    """Yields a browser; skips the test if none is installed."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("chromium or chromedriver is missing; run apt-get install chromium-driver")
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
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    yield browser
    browser.quit()


def resize(browser: Any, size: tuple[int, int]) -> None:
    """Sets the size of the window; phone sizes are possible."""
    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def requested(browser: Any) -> list[str]:
    """Returns the URLs requested since the last call, without the browser's internal pages."""
    messages = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    urls = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    own = ("about:", "data:", "blob:", "chrome:", "chrome-untrusted:")
    return [url for url in urls if not url.startswith(own)]


# Elements that are wider than the window or narrower than their contents.
WIDER = (
    "const w = document.documentElement.clientWidth;"
    "return [...document.querySelectorAll('*')].filter(e => !e.closest('svg') && ("
    "e.getBoundingClientRect().right > w + 1 || e.clientWidth && e.scrollWidth > "
    "e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible')).map(e => e.outerHTML)"
)
