"""
The example project as an operator meets it: its pages, served with a strict policy, and a browser.

One stage serves a whole module of tests, or a round of pictures: a site with the scene's rows, and
one browser in which a superuser is logged in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.test import Client, override_settings
from pytest_django.live_server_helper import LiveServer
from selenium.webdriver import Chrome

from tests.browser import open_browser
from tests.console import scene

MIDDLEWARE = [
    "tasks_app.middleware.RequestIDMiddleware",
    "tests.console.csp.StrictPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]


def settings(folder: Path) -> dict[str, Any]:
    """Return the example project's settings where they differ from those of the tests."""
    return {
        "ROOT_URLCONF": "example_project.urls",
        "MIDDLEWARE": MIDDLEWARE,
        "LANGUAGE_CODE": "en-gb",
        "DATA_DIR": folder,
        "DISPATCH": {
            "MAPS_DIR": folder / "maps",
            "FLOWER_URL": "http://127.0.0.1:5555/",
            "FLIGHTS": 500,
            "WEBHOOKS_URL": "http://127.0.0.1:9/webhooks",
            "WEBHOOK_SECRET": "known to both",
            "TIMEOUT": 1.0,
        },
        "TASKS_APP": {"FLOWER_URL": "http://127.0.0.1:5555/", "REDACT": ["card_token"]},
    }


@dataclass(frozen=True)
class Stage:
    """An open browser, the address of the site before it, and what the scene's rows are."""

    browser: Chrome
    url: str
    facts: scene.Facts

    def open(self, address: str) -> None:
        self.browser.get(f"{self.url}{address}")

    def emulate(self, theme: str) -> None:
        """Let the user prefer a light or a dark theme; Django's own setting follows that."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def resize(self, width: int, height: int = 900) -> None:
        """Make the window so many pixels wide."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@contextmanager
def open_stage(*, for_tests: bool) -> Iterator[Stage]:
    """
    Build the scene in the database, and serve it as long as the block lasts.

    Args:
        for_tests: With what a picture had better not show.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(override_settings(**settings(folder)))
        facts = scene.build() | (scene.add_for_tests() if for_tests else {})
        server = LiveServer("localhost")
        stack.callback(server.stop)
        browser = stack.enter_context(open_browser())
        # Ends what a page still fetches, before the server goes.
        stack.callback(browser.get, "about:blank")
        stage = Stage(browser, server.url, facts)
        log_in(stage)
        yield stage


def log_in(stage: Stage) -> None:
    """Log the scene's superuser in."""
    client = Client()
    client.force_login(get_user_model().objects.get(pk=stage.facts["user"]))
    stage.open("/static/dispatch/icon.svg")
    cookie = client.cookies["sessionid"].value
    stage.browser.add_cookie({"name": "sessionid", "value": cookie, "path": "/"})
