"""The dispatch desk under test: its own data folder, and its outside services in this process.

Needs ``example_project.dispatch`` among the INSTALLED_APPS of whatever settings the run has;
everything else the desk reads is set here for each test.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read when the example's own settings are the run's settings: they then write nothing here.
os.environ.setdefault("DISPATCH_DATA", tempfile.mkdtemp(prefix="dispatch-tests-"))

import pytest

from example_project.demo.services import Mischief, World

SECRET = "known to sender and receiver"


@pytest.fixture
def desk_settings(settings: Any, tmp_path: Path) -> Any:
    """The settings that the desk reads, with a data folder of its own."""
    # The first one, as in the example's own settings.
    request_ids = "tasks_app.middleware.RequestIDMiddleware"
    settings.MIDDLEWARE = list(dict.fromkeys([request_ids, *settings.MIDDLEWARE]))
    settings.DATA_DIR = tmp_path
    settings.DEFAULT_FROM_EMAIL = "desk@dispatch.example"
    settings.DISPATCH = {
        "MAPS_DIR": tmp_path / "maps",
        "WEATHER_URL": "http://127.0.0.1:9/weather",
        "PAYMENTS_URL": "http://127.0.0.1:9/payments",
        "WEBHOOKS_URL": "http://127.0.0.1:9/webhooks",
        "WEBHOOK_SECRET": SECRET,
        "FLOWER_URL": "",
        "FLIGHTS": 500,
        "TIMEOUT": 1.0,
    }
    return settings


class Faults(Mischief):
    """Makes the next calls go wrong as told, then lets all others pass."""

    def __init__(self) -> None:
        self.coming: list[str] = []

    def choose(self, kind: str, caller: str) -> str | None:
        return self.coming.pop(0) if self.coming else None


@pytest.fixture
def world(desk_settings: Any, tmp_path: Path) -> Iterator[World]:
    """The demo's HTTP services on a free port; `world.mischief.coming` lists faults to come."""
    world = World(tmp_path, Faults(), SECRET)
    address = f"http://127.0.0.1:{world.server_port}"
    for name in ("weather", "payments", "webhooks"):
        desk_settings.DISPATCH[f"{name.upper()}_URL"] = f"{address}/{name}"
    thread = threading.Thread(target=world.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield world
    world.shutdown()
    thread.join()
    world.server_close()
