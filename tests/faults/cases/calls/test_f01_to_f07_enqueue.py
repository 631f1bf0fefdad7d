"""Faults of the enqueue: callers that die, transactions that end badly, keys that collide."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import UUID

import pytest
from django.db import OperationalError, connection, transaction

from tasks_app.exceptions import IdempotencyConflict
from tasks_app.models import IdempotencyKey, Outcome
from tests import trail
from tests.faults.cases.calls.conftest import BROKER_RECOVERY
from tests.installation import PATIENCE
from tests.races.two import at_once
from tests.servers import Mode
from tests.testapp import tasks
from tests.waiting import wait_until

#: One second as the longest wait for a lock, in each database's words.
ONE_SECOND = {
    "postgresql": "SET lock_timeout = '1s'",
    "mysql": "SET innodb_lock_wait_timeout = 1",
    "sqlite": "PRAGMA busy_timeout = 1000",
}


def outcome_of(key):
    """Return the one outcome that holds an idempotency key."""
    return Outcome.objects.get(idempotency_key=f"record:{key}")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("point", ["enqueue.after_reserve", "enqueue.after_insert"])
def test_f01_a_caller_killed_before_its_commit_leaves_nothing(point, key, case):
    """No row and no key is left: the next caller with the same key enqueues, and it runs once."""
    lines = f"with transaction.atomic():\n    tasks.record_once.enqueue({key!r})"
    caller = case.client(lines, TASKS_APP_CRASH=f"{point}:kill")
    assert (caller.returncode, caller.stderr) == (-signal.SIGKILL, f"crash point {point}: kill\n")
    assert not Outcome.objects.filter(idempotency_key=f"record:{key}").exists()
    again = tasks.record_once.enqueue(key)
    assert again.created
    case.succeeds(again)
    assert case.effects == [""]


@pytest.mark.usefixtures("worker")
def test_f02_a_caller_killed_after_its_commit_has_enqueued(key, case):
    """Nobody but the relay has to know of the row."""
    lines = f"tasks.record_once.enqueue({key!r})"
    caller = case.client(lines, TASKS_APP_CRASH="enqueue.after_insert:kill")
    with case.recovers_within(BROKER_RECOVERY):
        assert caller.returncode == -signal.SIGKILL
        case.succeeds(outcome_of(key))
    assert case.effects == [""]


@pytest.mark.usefixtures("worker")
def test_f03_a_caller_who_does_not_learn_of_its_commit_may_enqueue_again(key, case, database_link):
    """Where the answer to COMMIT is lost, the same call with the same key finds its own row."""
    lines = f"""
key = {key!r}
try:
    with transaction.atomic():
        first = tasks.record_once.enqueue(key)
        trail.leave(key + "-enqueued")
        trail.wait_at_gate(key + "-commit")
except Error:
    trail.leave(key + "-unknown")
else:
    raise SystemExit("the answer came through")
trail.wait_at_gate(key + "-again")
transaction.get_connection().close()
again = tasks.record_once.enqueue(key)
print(first.pk == again.pk, again.created)
"""
    with ThreadPoolExecutor(1) as thread:
        caller = thread.submit(case.client, lines, **database_link.environment)
        wait_until(lambda: trail.left(f"{key}-enqueued"), PATIENCE, "the row")
        database_link.proxy.set(Mode.DROP_REPLY_CUT)
        trail.open_gate(f"{key}-commit")
        wait_until(lambda: trail.left(f"{key}-unknown") or caller.done(), PATIENCE, "the error")
        database_link.proxy.set(Mode.PASS)
        trail.open_gate(f"{key}-again")
        assert caller.result().stdout == "True False\n", caller.result().stderr
    case.succeeds(outcome_of(key))
    assert case.effects == [""]


def test_f04_a_rollback_leaves_nothing_to_run(key):
    """What was enqueued in a transaction or a savepoint vanishes with it."""
    with transaction.atomic():
        with transaction.atomic():
            inner = tasks.record.enqueue(key)
            transaction.set_rollback(True)
        outer = tasks.record.enqueue(key)
        transaction.set_rollback(True)
    assert not Outcome.objects.filter(pk__in=[inner.pk, outer.pk]).exists()


def test_f05_callers_with_the_same_key_get_the_same_outcome(key):
    """Eight callers at once: one row, whose id all of them get."""
    outcomes = at_once(*[lambda: tasks.record_once.enqueue(key)] * 8)
    assert len({outcome.pk for outcome in outcomes}) == 1
    assert sum(outcome.created for outcome in outcomes) == 1


def test_f06_other_arguments_under_the_same_key_are_refused(key):
    """The row stays what it was, before its run and while somebody runs it."""
    outcome = tasks.record_once.enqueue(key)
    with pytest.raises(IdempotencyConflict):
        tasks.record_once.enqueue(key, "another note")
    outcome.refresh()
    assert (outcome.args, outcome.kwargs) == ([key], {})


def test_f07_a_key_that_is_held_in_an_open_transaction_is_waited_for_in_bounds(key):
    """The second caller waits as long as its database lets it, is refused, and may ask again."""

    def enqueue_in_a_second() -> UUID:
        with closing(connection):
            with connection.cursor() as cursor:
                cursor.execute(ONE_SECOND[connection.vendor])
            return tasks.record_once.enqueue(key).pk

    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            first = tasks.record_once.enqueue(key)
            second = thread.submit(enqueue_in_a_second)
            with pytest.raises(OperationalError, match=r"(?i)lock"):
                second.result(PATIENCE)
        assert thread.submit(enqueue_in_a_second).result(PATIENCE) == first.pk
    assert IdempotencyKey.objects.filter(outcome_id=first.pk).count() == 1
    assert outcome_of(key) == first
