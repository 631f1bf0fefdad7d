"""Flower as it is shipped: nobody reaches it who was not meant to, and nobody acts through it."""

from __future__ import annotations

import re
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click import ClickException
from flower.urls import handlers

from tasks_app.integrations.flower import doors
from tests.processes import READY_TIMEOUT, ROOT, launch
from tests.security.sinks import CREDENTIALS, answer
from tests.servers.server import free_port
from tests.waiting import wait_until

PAGES = ("/", "/workers", "/tasks", "/broker")
READING = ("/api/workers", "/api/tasks", "/api/task/types")
LINK = "/outcome/01a1fe3a-c73b-7835-a565-5a3bba142fc1"


def commands() -> Iterator[str]:
    """Yield each address at which this Flower changes something, with a name filled in."""
    for entry in handlers:
        pattern, handler = (
            (entry[0], entry[1])
            if isinstance(entry, tuple)
            else (entry.regex.pattern, entry.handler_class)
        )
        if pattern.startswith("/api/") and "post" in vars(handler):
            yield pattern.rstrip("$").replace("(.+)", "x")


COMMANDS = tuple(commands())


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


def test_flower_listens_on_loopback_and_commands_nobody(tmp_path):
    """Whoever starts it as it is shipped shows it to this machine alone, and lets nobody act."""
    port = free_port()
    environment = {
        "DISPATCH_DATA": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
    }
    words = [*shipped(), f"--port={port}"]
    with launch(tmp_path, "flower", words, environment) as flower:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answer(url)[0], READY_TIMEOUT, flower.tail)
        if sys.platform == "linux":
            assert not listens_at("127.0.0.2", port)
        for page in READING:
            assert answer(f"{url}{page}")[0] == 401
        assert len(COMMANDS) >= 14
        for page in COMMANDS:
            for method in ("POST", "PUT", "DELETE"):
                status, text = answer(f"{url}{page}", method=method)
                assert status == 403
                assert 'TASKS_APP["FLOWER_READ_ONLY"] = False' in text
        assert re.findall(r'data-column="(\w+)"', answer(f"{url}/tasks")[1]) == [
            *("name", "uuid", "state", "received", "runtime", "retries", "worker")
        ]


def test_a_password_closes_every_page_and_an_address_opens_the_network(tmp_path):
    """With `FLOWER_BASIC_AUTH` nothing is shown without it; an address that is named is used."""
    port = free_port()
    environment = {"FLOWER_BASIC_AUTH": CREDENTIALS, "FLOWER_ADDRESS": "0.0.0.0"}
    words = ["django", "tasks", "flower", f"--port={port}"]
    with launch(tmp_path, "flower", words, environment) as flower:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answer(url)[0], READY_TIMEOUT, flower.tail)
        for page in (*PAGES, *READING, "/metrics"):
            assert answer(f"{url}{page}")[0] == 401
            assert answer(f"{url}{page}", credentials=CREDENTIALS)[0] == 200
        assert answer(f"{url}{LINK}")[0] == 401
        status, page = answer(f"{url}{LINK}", credentials=CREDENTIALS)
        assert (status, "ADMIN_URL" in page) == (404, True)
        for page in COMMANDS:
            assert answer(f"{url}{page}", method="POST")[0] == 401
            assert answer(f"{url}{page}", method="POST", credentials=CREDENTIALS)[0] == 403
        assert sys.platform != "linux" or listens_at("127.0.0.2", port)


#: How Flower is told to listen to the network, and with which Celery app.
OPEN_DOORS = {
    "a command line": ("tasks_app", ("--address=0.0.0.0",), {}, "'0.0.0.0'"),
    "an environment": ("tasks_app", (), {"FLOWER_ADDRESS": "192.0.2.7"}, "'192.0.2.7'"),
    "a file": ("tasks_app", ("--conf={folder}/open.py",), {}, "'::'"),
    "an own app": ("tests.adopted", ("--address=0.0.0.0",), {}, "'0.0.0.0'"),
    "no password": ("tasks_app", (), {"FLOWER_BASIC_AUTH": "operator:"}, "no password"),
}


def test_flower_does_not_start_where_the_network_could_see_it(tmp_path):
    """However it was told to, and whosever Celery app it is: it says what it was given, and why."""
    (tmp_path / "open.py").write_text("address = '::'\n")
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(
                launch(
                    tmp_path,
                    name.replace(" ", "-"),
                    [
                        *("celery", "-A", app, "flower", f"--port={free_port()}"),
                        *(word.format(folder=tmp_path) for word in words),
                    ],
                    environment,
                )
            )
            for name, (app, words, environment, _) in OPEN_DOORS.items()
        }
        for name, (*_, told) in OPEN_DOORS.items():
            flower = started[name]
            assert flower.process.wait(READY_TIMEOUT) == 1, flower.tail()
            (line,) = (each for each in flower.output.splitlines() if each.startswith("Error:"))
            assert told in line
            assert "--basic_auth" in line
            assert "Visit me" not in flower.output


def test_flower_of_an_own_celery_app_is_as_shut(tmp_path):
    """There Django is set up late, when Flower has read its options already."""
    port = free_port()
    words = ("celery", "-A", "tests.adopted", "flower", f"--port={port}")
    with launch(tmp_path, "flower", words, None) as flower:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answer(url)[0], READY_TIMEOUT, flower.tail)
        assert sys.platform != "linux" or not listens_at("127.0.0.2", port)
        assert answer(f"{url}{COMMANDS[0]}", method="POST")[0] == 403
        assert "outcome_links.js" in answer(url)[1]


def options(**given: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{"address": "127.0.0.1", "basic_auth": None, "auth": "", "unix_socket": "", **given}
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"address": "localhost"},
        {"address": "127.1.2.3"},
        {"address": "::1"},
        {"address": "0.0.0.0", "basic_auth": ["operator:secret"]},
        {"address": "0.0.0.0", "auth": r".*@shop\.example"},
        {"address": "", "unix_socket": "/run/flower.sock"},
    ],
    ids=repr,
)
def test_a_watched_door_may_be_open(given):
    """This machine, a Unix socket, a password or a login."""
    doors.check(options(**given))


@pytest.mark.parametrize(
    "given",
    [
        {"address": ""},
        {"address": "0.0.0.0"},
        {"address": "::"},
        {"address": "10.0.0.1"},
        {"address": "::ffff:10.0.0.1"},
        {"address": "0.0.0.0", "basic_auth": []},
        {"basic_auth": [""]},
        {"basic_auth": ["operator:secret", "guest:"]},
        {"basic_auth": ["secret"]},
        {"address": "no-such-host.invalid"},
    ],
    ids=repr,
)
def test_an_unwatched_door_stays_shut(given):
    """An empty password is none: an empty answer would open it. No password is ever repeated."""
    with pytest.raises(ClickException) as refused:
        doors.check(options(**given))
    assert "secret" not in refused.value.message


def test_the_demo_starts_flower_on_loopback():
    """So that a visitor's network sees nothing of it."""
    source = (Path(ROOT) / "example_project" / "demo" / "supervisor.py").read_text()
    assert '"--address=127.0.0.1"' in source
