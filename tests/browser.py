"""A real browser, driven by a test: Chromium without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.conftest import do_without

#: A program and the names that systems give it.
PROGRAMS = {
    "Chromium": ("chromium", "chromium-browser", "google-chrome"),
    "its driver": ("chromedriver", "chromium.chromedriver"),
}

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # root has none, and the pages are the test's own
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--force-color-profile=srgb",
    "--window-size=1400,900",
)


@contextmanager
def open_browser() -> Iterator[Chrome]:
    """Start a browser with an empty profile, and end it; `get_log("browser")` has its console."""
    found = {
        what: next(filter(None, map(shutil.which, names)), "") for what, names in PROGRAMS.items()
    }
    for what, program in found.items():
        if not program:
            do_without(
                "browser", f"{what} is not installed: apt-get install chromium chromium-driver"
            )
    options = ChromeOptions()
    options.binary_location = found["Chromium"]
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, Service(found["its driver"]))
    try:
        yield browser
    finally:
        browser.quit()
