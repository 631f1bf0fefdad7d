"""Web processes and workers whose code is not of the same day, and tables newer than both."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from django.db import connection

from tasks_app.models import Attempt, Outcome
from tests.faults.deploys import before
from tests.testapp import tasks


@pytest.fixture(scope="module")
def start(installation):
    """Start a worker with the code before or after the deploy."""

    def start_worker(code, queue, name):
        return installation.start_worker(
            f"{name}-{queue}",
            queues=[queue],
            settings={"RELAY_INTERVAL": 0.1},
            arguments=["--include", f"tests.faults.deploys.{code}"],
        )

    return start_worker


def test_f56_new_workers_take_what_old_code_has_enqueued(case, start):
    """A renamed task runs; a changed signature fails with its reason; what is gone waits."""
    queue = case.key
    greeting = before.greet.using(queue=queue).enqueue(case.key, "hello")
    renamed = before.old_name.using(queue=queue).enqueue(case.key)
    gone = before.retired.using(queue=queue).enqueue(case.key)
    with start("after", queue, "new") as worker:
        case.settled(greeting)
        case.settled(renamed)
        worker.wait_for_output(f"{gone.pk}: no task of that name is registered here")
        assert tasks.add.using(queue=queue).enqueue(1, 2).get(timeout=30) == 3
    assert (greeting.state, greeting.reason) == ("failed", "not_retryable")
    assert "too many positional arguments" in greeting.error
    assert (renamed.state, case.effects()) == ("succeeded", ["by the new name"])
    gone.refresh()
    assert (gone.state, gone.attempt, gone.crashes) == ("pending", 0, 0)
    with start("before", queue, "old"):
        gone.run_now()
        assert case.settled(gone).state == "succeeded"
        assert case.settled(greeting.replay()).state == "succeeded"
    assert case.effects() == ["by the new name", "by the old code", "hello"]


@contextmanager
def a_later_schema():
    """Widen the app's tables as an additive migration of a later release would."""
    tables = [model._meta.db_table for model in (Outcome, Attempt)]
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} ADD COLUMN later varchar(20) NULL")
            cursor.execute(f"ALTER TABLE {table} ADD COLUMN later_count integer DEFAULT 0")
            cursor.execute(f"CREATE INDEX {table}_later ON {table} (later_count)")
        try:
            yield
        finally:
            for table in tables:
                on = f" ON {table}" if connection.vendor == "mysql" else ""
                cursor.execute(f"DROP INDEX {table}_later{on}")
                for column in ("later", "later_count"):
                    cursor.execute(f"ALTER TABLE {table} DROP COLUMN {column}")


def test_f57_old_code_works_on_a_later_schema(case, trapped):
    """A migration that only adds may run below living workers: every step of a call goes on."""
    running = trapped.using(tasks.record_late).enqueue(case.key)
    case.entered()
    with a_later_schema():
        case.open_gate()
        assert case.settled(running).state == "succeeded"
        retried = case.settled(trapped.using(tasks.succeed_at).enqueue(f"{case.key}-2", 2))
        lost = case.settled(trapped.using(tasks.die).enqueue(f"{case.key}-3", 1))
        assert trapped.using(tasks.add).enqueue_many([(1, 2), (3, 4)])
        assert trapped.works()
    assert (retried.state, retried.attempt) == ("succeeded", 2)
    assert (lost.state, lost.crashes) == ("succeeded", 1)
    assert trapped.works()
    assert case.effects() == [""]
