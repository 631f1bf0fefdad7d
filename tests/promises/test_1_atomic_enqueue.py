"""
Promise 1: the row commits or rolls back with the caller's transaction, and after it the task runs.

Scenarios that show the same with workers: `test_enqueue` (commit, rollback, savepoint) and
`test_broker` (a broker that is down, restarted, or has lost everything).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta

import pytest
from celery import Celery
from django.db import transaction

from tasks_app.models import Outcome
from tasks_app.relay import Counts, Relay
from tests import by_hand
from tests.processes import ROOT
from tests.project import app
from tests.testapp.tasks import add, record_once

pytestmark = pytest.mark.django_db(transaction=True)

#: The first instruction after the commit is the process' last.
COMMIT_AND_DIE = """
import os, signal, django
django.setup()
from django.db import transaction
from tests.testapp.tasks import add
with transaction.atomic():
    transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    add.enqueue(1, 2)
    add.enqueue_many([(3, 4)])
"""


def enqueue_forms(key):
    """Enqueue in every form that writes a row."""
    add.enqueue(1, 2)
    add.enqueue_many([(3, 4), (5, 6)])
    add.delay(7, 8)
    record_once.enqueue(key)


def test_a_rollback_takes_every_row_with_it(key):
    """Nothing that was enqueued in a transaction outlives its rollback."""
    with transaction.atomic():
        enqueue_forms(key)
        transaction.set_rollback(True)
    assert not Outcome.objects.exists()


def test_a_rolled_back_savepoint_takes_its_rows_with_it(key):
    """Only what was enqueued outside the savepoint is left."""
    with transaction.atomic():
        kept = add.enqueue(1, 2)
        with transaction.atomic():
            enqueue_forms(key)
            transaction.set_rollback(True)
    assert Outcome.objects.get() == kept


def test_the_row_is_not_seen_before_the_commit():
    """Others see the row when the caller's transaction is through, and not before."""
    with transaction.atomic():
        outcome = add.enqueue(1, 2)
        rows = Outcome.objects.filter(pk=outcome.pk)
        assert rows.exists()
        assert by_hand.elsewhere(rows.all().exists) is False
    assert by_hand.elsewhere(rows.all().exists) is True


def test_a_process_that_dies_right_after_its_commit_loses_nothing():
    """The row is part of the commit: no hook behind it has to run."""
    caller = subprocess.run(
        [sys.executable, "-c", COMMIT_AND_DIE],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tests.settings"},
        check=False,
    )
    assert caller.returncode == -signal.SIGKILL
    assert Outcome.objects.filter(state="pending").count() == 2
    assert Relay(app).run_once().announced == 2


def test_a_row_whose_message_was_lost_is_announced_again():
    """No announcement is the last one: until a worker claims the row, it comes due again."""
    outcome = add.enqueue(1, 2)
    relay = Relay(app)
    for wait in (30, 60, 120, 300, 600, 600):
        assert relay.run_once().announced == 1
        assert relay.run_once().announced == 0
        by_hand.come_due(outcome, timedelta(seconds=wait))


def test_a_broker_that_is_down_leaves_the_row_due():
    """What the broker did not take is due again at once, for the next look."""
    outcome = add.enqueue(1, 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = Celery(
            broker=f"amqp://127.0.0.1:{free.getsockname()[1]}", set_as_current=False, main="nobody"
        )
        assert Relay(nobody).run_once() == Counts(unanswered=1)
    assert Outcome.objects.due().get() == outcome
    assert Relay(app).run_once() == Counts(announced=1)
