"""
Outcomes in partitions of a day, by the SQL of `docs/ops/partitions.sql`, on a real PostgreSQL.

The tables are those of the migrations, with rows in them, in a database of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from celery.app.task import Context
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext, override_settings

from tasks_app import outbox, outcomes, worker
from tasks_app.leases import Lease
from tasks_app.models import Attempt, Cause, IdempotencyKey, Outcome, Repeat, Subject
from tests.integration.command_line import WORKER, failed
from tests.testapp import tasks

SQL = Path(__file__).parents[2] / "docs" / "ops" / "partitions.sql"
ALIAS = "partitioned"

#: The first day that has a partition, and the next one.
DAYS = [
    datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=n)
    for n in (2, 3)
]
SUFFIXES = [f"{day:%Y%m%d}" for day in DAYS]


@pytest.fixture(scope="module")
def database(postgres, django_db_blocker) -> Iterator[None]:
    """A database with the app's tables, in which outcomes live."""
    with psycopg.connect(postgres.url, autocommit=True) as administrator:
        administrator.execute(f"CREATE DATABASE {ALIAS}")
        given = {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": postgres.port,
            "USER": "postgres",
            "NAME": ALIAS,
        }
        known = {"default": connections.settings["default"], ALIAS: given}
        connections.settings[ALIAS] = connections.configure_settings(known)[ALIAS]
        with django_db_blocker.unblock(), override_settings(TASKS_APP={"DATABASE": ALIAS}):
            call_command("migrate", database=ALIAS, verbosity=0)
            yield
        connections[ALIAS].close()
        del connections[ALIAS], connections.settings[ALIAS]
        administrator.execute(f"DROP DATABASE {ALIAS}")


@pytest.fixture(scope="module")
def before(database) -> dict[str, Outcome]:
    """Rows from before there were partitions; then the partitions."""
    found = {
        "done": run(tasks.add.enqueue(1, 2)),
        "waiting": tasks.add.using(run_after=3600).enqueue(1, 2),
        "named": called_with_id(UUID(int=2**128 - 1)),
    }
    for _ in range(5):
        run(tasks.add.enqueue(1, 2))
    execute(SQL.read_text())
    for table, key, primary_key in (
        ("tasks_app_outcome", "id", "id"),
        ("tasks_app_attempt", "outcome_id", "id, outcome_id"),
    ):
        execute("CALL tasks_app_partition(%s, %s, %s, %s)", table, key, primary_key, DAYS[0].date())
        for day in DAYS:
            execute("CALL tasks_app_add_day(%s, %s)", table, day.date())
    return found


def execute(sql: str, *params: object) -> None:
    """Run SQL in the database."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(sql, params or None)


def query(sql: str, *params: object) -> list[tuple[object, ...]]:
    """Return the rows of a query."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(sql, params or None)
        return cursor.fetchall()


def run(outcome: Outcome) -> Outcome:
    """Run an outcome as a worker's process does when its doorbell arrives."""
    worker.answer(tasks.add.name, tasks.add.options, tasks.add.run, Context(id=str(outcome.pk)))
    outcome.refresh()
    return outcome


def called_with_id(outcome_id: UUID) -> Outcome:
    """Call a task under an id of the caller's."""
    tasks.add.apply_async((1, 2), task_id=str(outcome_id))
    return Outcome.objects.get(pk=outcome_id)


def id_of(moment: datetime, place: int) -> UUID:
    """Return an id as processes make them at a moment."""
    return UUID(int=int(moment.timestamp() * 1000) << 80 | 0x7 << 76 | 0x2 << 62 | place)


def place(outcome: Outcome | Attempt, key: str = "id") -> str:
    """Return the last word of the name of the partition that a row lies in."""
    table = outcome._meta.db_table
    found = query(f"SELECT tableoid::regclass::text FROM {table} WHERE {key} = %s", outcome.pk)
    return str(found[0][0]).rpartition("_")[2]


def test_rows_from_before_stay_where_they_are(before):
    """The table becomes a partition of itself; only an id beyond all days moves."""
    assert place(before["done"]) == place(before["waiting"]) == "before"
    assert place(before["done"].attempts.get()) == "before"
    assert place(before["named"]) == "default"
    assert Outcome.objects.get(pk=before["done"].pk).result == 3


def test_a_days_rows_lie_together(before):
    """Outcomes and attempts by the time in the outcome's id."""
    outcome = run(called_with_id(id_of(DAYS[0], 1)))
    assert outcome.state == "succeeded"
    assert place(outcome) == place(outcome.attempts.get()) == SUFFIXES[0]


def test_the_way_of_a_call_is_the_same(before):
    """Bulk, relay, claim, retry, failure: as without partitions, and attempts count on."""
    ids = tasks.add.enqueue_many([(n, n) for n in range(3)])
    taken = outbox.take_due(200, [tasks.add.name]).rows
    assert set(ids) <= {row.pk for row in taken}
    first, second, third = (Outcome.objects.get(pk=pk) for pk in ids)
    claimed = outcomes.claim(first.pk, frozenset({tasks.add.name}), WORKER)
    outcomes.retry(Lease.of(claimed), timedelta(0))
    assert run(first).result == 0
    assert [attempt.state for attempt in first.attempts.all()] == ["retried", "succeeded"]
    assert failed(second).reason == "not_retryable"
    assert run(third).state == "succeeded"
    assert Attempt.objects.count() == len(set(Attempt.objects.values_list("pk", flat=True)))


def test_a_claim_looks_into_one_partition(before):
    """Whatever the number of days: an id names its day."""
    outcome = tasks.add.enqueue(1, 2)
    with CaptureQueriesContext(connections[ALIAS]) as captured:
        assert outcomes.claim(outcome.pk, frozenset({tasks.add.name}), WORKER)
    statement = next(each["sql"] for each in captured if each["sql"].startswith("UPDATE"))
    plan = json.dumps(query(f"EXPLAIN (FORMAT JSON) {statement}"))
    assert "tasks_app_outcome_before" in plan
    assert [name for name in (*SUFFIXES, "default") if f"tasks_app_outcome_{name}" in plan] == []


def test_what_was_said_of_rows_that_are_gone_is_swept(before):
    """Causes, keys, repeats and subjects; those of outcomes that are there stay."""
    gone, there = id_of(DAYS[0], 7), failed(called_with_id(id_of(DAYS[0], 8))).pk
    for outcome_id in (gone, there):
        Subject.objects.create(outcome_id=outcome_id, model="shop.order", object_pk="1")
        IdempotencyKey.objects.create(scope=outcome_id.hex, outcome_id=outcome_id)
        Repeat.objects.create(outcome_id=outcome_id)
    Cause.objects.create(outcome_id=gone, failed_at=DAYS[0])
    execute("CALL tasks_app_sweep(%s)", DAYS[1].date())
    for model in (Subject, IdempotencyKey, Repeat, Cause):
        left = model.objects.filter(outcome_id__in=[gone, there])
        assert list(left.values_list("outcome_id", flat=True)) == [there]


def test_a_days_rows_go_at_once_but_for_those_with_a_reason(before):
    """What waits, what failed and what ended lately stays, with its attempts and its id."""
    done, late, lost, waiting = (called_with_id(id_of(DAYS[1], number)) for number in range(4))
    for outcome in (done, late):
        run(outcome)
    failed(lost)
    long_ago = datetime.now(UTC) - timedelta(days=8)
    Outcome.objects.filter(pk=done.pk).update(finished_at=long_ago)
    execute("CALL tasks_app_drop_partition(%s, %s)", SUFFIXES[1], timedelta(days=7))
    assert not Outcome.objects.filter(pk=done.pk).exists()
    assert not Attempt.objects.filter(outcome_id=done.pk).exists()
    assert {place(row) for row in (late, lost, waiting)} == {"default"}
    assert late.attempts.get().state == "succeeded"
    assert lost.attempts.get().state == "failed"
    assert run(waiting).state == "succeeded"
