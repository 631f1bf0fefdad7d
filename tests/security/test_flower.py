"""Flower as it is shipped: nobody reaches it who was not meant to."""

from __future__ import annotations

import shlex
import socket
import sys
from pathlib import Path

from tests.processes import READY_TIMEOUT, ROOT, launch
from tests.security.sinks import CREDENTIALS, answer
from tests.servers.server import free_port
from tests.waiting import wait_until

PAGES = ("/", "/workers", "/tasks", "/broker")
READING = ("/api/workers", "/api/tasks", "/api/task/types")
WRITING = ("/api/worker/shutdown/x", "/api/task/send-task/x", "/api/task/revoke/x")


def shipped() -> list[str]:
    """Return the words of the Procfile's line."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("flower:"))
    program, *words = shlex.split(line.partition(":")[2])
    assert program == "celery"
    return [program, *words]


def listens_at(address: str, port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(5)
        return caller.connect_ex((address, port)) == 0


def test_flower_listens_on_loopback_and_its_interface_asks_for_a_password(tmp_path):
    """Whoever starts it as it is shipped shows it to this machine alone, and lets nobody act."""
    port = free_port()
    environment = {
        "DISPATCH_DATA": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
    }
    words = [*shipped(), f"--port={port}"]
    with launch(tmp_path, "flower", words, environment) as flower:
        wait_until(lambda: answer(f"http://127.0.0.1:{port}/")[0], READY_TIMEOUT, flower.tail)
        if sys.platform == "linux":
            assert not listens_at("127.0.0.2", port)
        for page in READING:
            assert answer(f"http://127.0.0.1:{port}{page}")[0] == 401
        for page in WRITING:
            assert answer(f"http://127.0.0.1:{port}{page}", method="POST")[0] == 401


def test_a_password_closes_every_page_and_an_address_opens_the_network(tmp_path):
    """With `FLOWER_BASIC_AUTH` nothing is shown without it; an address that is named is used."""
    port = free_port()
    environment = {"FLOWER_BASIC_AUTH": CREDENTIALS, "FLOWER_ADDRESS": "0.0.0.0"}
    words = ["django", "tasks", "flower", f"--port={port}"]
    with launch(tmp_path, "flower", words, environment) as flower:
        wait_until(lambda: answer(f"http://127.0.0.1:{port}/")[0], READY_TIMEOUT, flower.tail)
        for page in (*PAGES, *READING):
            assert answer(f"http://127.0.0.1:{port}{page}")[0] == 401
            assert answer(f"http://127.0.0.1:{port}{page}", credentials=CREDENTIALS)[0] == 200
        for page in WRITING:
            assert answer(f"http://127.0.0.1:{port}{page}", method="POST")[0] == 401
        assert sys.platform != "linux" or listens_at("127.0.0.2", port)


def test_the_demo_starts_flower_on_loopback():
    """So that a visitor's network sees nothing of it."""
    source = (Path(ROOT) / "example_project" / "demo" / "supervisor.py").read_text()
    assert '"--address=127.0.0.1"' in source
