"""Flower beside this app: what it shows of the broker."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request

import pytest
from celery import current_app

from tests.integration.command_line import tasks
from tests.processes import READY_TIMEOUT, launch, start_worker
from tests.servers.server import free_port
from tests.servers.session import chosen_broker
from tests.testapp.tasks import add
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(chosen_broker() != "embedded", reason="Flower knows this broker by itself"),
]

#: Opens Flower's API without a password.
ALLOWED = {"FLOWER_UNAUTHENTICATED_API": "true"}


@pytest.mark.parametrize("app", ["tests.project", "tasks_app"])
def test_flower_shows_what_waits_in_the_embedded_broker(app, tmp_path):
    """Its broker page counts each queue's messages; a worker that comes later tells of its runs."""
    with current_app.connection_for_write() as connection:
        connection.default_channel.queue_purge("celery")
    add.enqueue_many([(n, n) for n in range(3)])
    tasks("relay", "--once")
    port = free_port()
    words = ("celery", "-A", app, "flower", "--address=127.0.0.1", f"--port={port}")
    with launch(tmp_path, "flower", words, ALLOWED) as flower:
        url = f"http://127.0.0.1:{port}"
        page = wait_until(lambda: page_at(f"{url}/broker"), READY_TIMEOUT, flower.tail)
        assert re.search(r"<td>celery</td>\s*<td[^>]*>3</td>", page), page
        with start_worker(tmp_path, name="younger", app=app, pool="solo"):
            wait_until(lambda: is_run_shown(url), READY_TIMEOUT, flower.tail)


def test_flower_and_inspect_see_a_worker_on_the_embedded_broker(tmp_path):
    """Remote control and events go through it like through any other broker."""
    port = free_port()
    words = ("celery", "-A", "tasks_app", "flower", "--address=127.0.0.1", f"--port={port}")
    with (
        start_worker(tmp_path, name="seen") as worker,
        launch(tmp_path, "flower", words, ALLOWED) as flower,
    ):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: "seen@" in page_at(f"{url}/workers"), READY_TIMEOUT, flower.tail)
        wait_until(lambda: is_run_shown(url), READY_TIMEOUT, flower.tail)
        inspect = launch(
            tmp_path, "inspect", ("celery", "-A", "tasks_app", "inspect", "ping"), None
        )
        with inspect:
            assert inspect.process.wait(READY_TIMEOUT) == 0, inspect.tail()
            assert "seen@" in inspect.output
        node = f"seen@{socket.gethostname()}"
        stop = urllib.request.Request(f"{url}/api/worker/shutdown/{node}", method="POST")
        assert "FLOWER_READ_ONLY" in page_at(stop)
        assert "Shut Down" not in page_at(f"{url}/worker/{node}")
        assert worker.running


def test_flowers_buttons_command_a_worker(tmp_path):
    """Once it is allowed to: Flower has loaded the project, so what it sends is signed."""
    port = free_port()
    words = ("celery", "-A", "tasks_app", "flower", "--address=127.0.0.1", f"--port={port}")
    allowed = {
        **ALLOWED,
        "TASKS_TEST_SETTINGS": json.dumps({"FLOWER_READ_ONLY": False}),
    }
    with (
        start_worker(tmp_path, name="commanded") as worker,
        launch(tmp_path, "flower", words, allowed) as flower,
    ):
        url = f"http://127.0.0.1:{port}"
        node = f"commanded@{socket.gethostname()}"
        workers = f"{url}/api/workers?refresh=1"
        wait_until(lambda: node in page_at(workers), READY_TIMEOUT, flower.tail)
        grow = urllib.request.Request(f"{url}/api/worker/pool/grow/{node}?n=1", method="POST")
        assert "Growing" in page_at(grow)
        stop = urllib.request.Request(f"{url}/api/worker/shutdown/{node}", method="POST")
        assert "Shutting down" in page_at(stop)
        wait_until(lambda: not worker.running, READY_TIMEOUT, worker.tail)
    assert "refused" not in worker.output


def is_run_shown(url: str) -> bool:
    """Enqueue a call, and tell whether Flower has heard of the end of any by now."""
    add.enqueue(1, 2)
    seen = json.loads(page_at(f"{url}/api/tasks?limit=100") or "{}")
    return any(each["state"] == "SUCCESS" for each in seen.values())


def page_at(url: str | urllib.request.Request) -> str:
    """Return the page at an address; nothing while nobody listens there."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return ""
