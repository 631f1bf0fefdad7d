"""
Promise 2: enqueueing never waits for a broker, because it does not speak to one.

The scenario that shows the same with a broker that hangs: `test_broker`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tasks_app.models import Outcome
from tests.processes import ROOT

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds after which a caller that waits for the broker is ended.
PATIENCE = 60

#: Every way in. A chain is one row until its first task has succeeded.
CALLER = """
import asyncio
import django
django.setup()
from celery import chain, chord, group
from tests.testapp.tasks import add, record_once, total
add.enqueue(1, 2)
add.using(queue="other", run_after=5).enqueue(1, 2)
add.enqueue_many([(1, 2), (3, 4)])
record_once.enqueue("key")
add.delay(1, 2)
add.apply_async((1, 2), countdown=5)
add.s(1, 2).delay()
chain(add.s(1, 2), add.s(3)).delay()
group(add.s(1, 2), add.s(3, 4)).delay()
chord([add.s(1, 2), add.s(3, 4)])(total.s())
asyncio.run(add.aenqueue(1, 2))
"""
ROWS = 1 + 1 + 2 + 1 + 1 + 1 + 1 + 1 + 2 + 2 + 1


def test_no_way_in_opens_a_connection_to_the_broker():
    """A caller whose broker takes connections and never answers does not even knock."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        subprocess.run(
            [sys.executable, "-c", CALLER],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "TASKS_TEST_BROKER": "rabbitmq",
                "TASKS_TEST_BROKER_URL": f"amqp://127.0.0.1:{silent.getsockname()[1]}",
            },
            timeout=PATIENCE,
            check=True,
        )
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert Outcome.objects.count() == ROWS
