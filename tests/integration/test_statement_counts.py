"""
What a call costs the database, pinned: statements, transactions, and waits for the disk.

Each number is a promise to those who size a database. A change that adds a round trip to every
outcome must change a line here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from uuid import uuid4

import pytest
from celery.app.task import Context
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tasks_app import outbox, outcomes, worker
from tasks_app.idempotency import MOST_REPEATS
from tasks_app.models import Outcome
from tests.testapp import tasks
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)

#: What one successful run asks Django for, in order; the helper itself sends nothing.
#: psycopg begins a transaction with its first statement: `sent` tells what goes over the line.
RUN = {
    "postgresql": ["UPDATE", "BEGIN", "WITH", "COMMIT"],
    "sqlite": ["UPDATE", "BEGIN", "UPDATE", "INSERT", "COMMIT"],
    "mysql": [
        *("BEGIN", "UPDATE", "SELECT", "COMMIT"),
        *("BEGIN", "UPDATE", "INSERT", "COMMIT"),
    ],
}

#: What a commit of an outcome's row was to wait for, as the database saw it.
WATCH = """
    CREATE TABLE commits (number serial, state text, synchronous text, transaction bigint);
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO commits (state, synchronous, transaction)
        VALUES (NEW.state, current_setting('synchronous_commit'), txid_current());
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR UPDATE ON tasks_app_outcome
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch();
"""
UNWATCH = "DROP TRIGGER watch ON tasks_app_outcome; DROP FUNCTION watch; DROP TABLE commits;"


#: A query in what libpq writes down of a connection.
QUERY = re.compile(r'\tF\t\d+\tQuery\t "\s*(\w+)')


@pytest.fixture(autouse=True)
def connected():
    """Open the connection first: what Django asks a new one is no part of a call."""
    connection.ensure_connection()
    Outcome.objects.exists()


@contextmanager
def verbs() -> Iterator[list[str]]:
    """Collect the first word of all that is sent to the database in the block."""
    seen: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield seen
    seen += [query["sql"].split(maxsplit=1)[0] for query in captured.captured_queries]


@contextmanager
def sent() -> Iterator[list[str]]:
    """Collect the first word of each query that goes to PostgreSQL in the block."""
    if connection.vendor != "postgresql":
        pytest.skip("the other databases' drivers send what Django says")
    seen: list[str] = []
    with TemporaryFile("w+") as trace:
        connection.connection.pgconn.trace(trace.fileno())
        try:
            yield seen
        finally:
            connection.connection.pgconn.untrace()
        trace.seek(0)
        seen += QUERY.findall(trace.read())


def run(outcome, task):
    """Run an outcome as a worker's process does when its doorbell arrives."""
    return worker.answer(task.name, task.options, task.run, Context(id=str(outcome.id)))


def test_enqueueing_is_one_statement():
    """An enqueue inside a transaction adds one INSERT to it, and outside commits by itself."""
    with transaction.atomic(), verbs() as inside:
        tasks.add.enqueue(1, 2)
    with verbs() as alone:
        tasks.add.enqueue(1, 2)
    assert inside == alone == ["INSERT"]


def test_enqueueing_with_a_key_is_two_statements():
    """An idempotency key adds one INSERT."""
    with transaction.atomic(), verbs() as inside:
        tasks.record_once.enqueue("a key")
    with verbs() as alone:
        tasks.record_once.enqueue("another key")
    assert inside == ["INSERT", "INSERT"]
    assert alone == ["BEGIN", "INSERT", "INSERT", "COMMIT"]


def test_asking_again_is_at_most_two_statements_more():
    """Who asked is noted by two statements, and by one once enough have asked."""
    tasks.record_once.enqueue("a key")
    with verbs() as second:
        tasks.record_once.enqueue("a key")
    for _ in range(MOST_REPEATS):
        tasks.record_once.enqueue("a key")
    with verbs() as last:
        tasks.record_once.enqueue("a key")
    found = ["BEGIN", "INSERT", "SELECT", "SELECT"]
    assert second == [*found, "SELECT", "INSERT", "COMMIT"]
    assert last == [*found, "SELECT", "COMMIT"]


def test_many_calls_are_one_statement_on_postgresql():
    """The number of calls does not show in the number of statements."""
    with transaction.atomic(), verbs() as seen:
        tasks.add.enqueue_many([(number, 1) for number in range(5_000)])
    if connection.vendor == "postgresql":
        assert seen == ["INSERT"]
    assert set(seen) == {"INSERT"}
    assert Outcome.objects.count() == 5_000


def test_a_successful_run_costs_what_it_did():
    """Claim, settlement and the attempt's row, in two transactions."""
    outcome = tasks.add.enqueue(1, 2)
    with verbs() as seen:
        assert run(outcome, tasks.add) == 3
    assert seen == RUN[connection.vendor]
    outcome.refresh()
    assert outcome.state == "succeeded"
    assert [attempt.state for attempt in outcome.attempts.all()] == ["succeeded"]


def test_a_helpers_own_statements_add_no_transaction():
    """What an atomic helper writes commits with its outcome."""
    key = uuid4().hex
    outcome = tasks.record.enqueue(key)
    with verbs() as seen:
        run(outcome, tasks.record)
    begin = len(seen) - 1 - seen[::-1].index("BEGIN")
    assert seen.pop(begin + 1) == "INSERT"
    assert seen == RUN[connection.vendor]
    assert Effect.objects.filter(key=key).count() == 1


def test_a_run_that_writes_nothing_is_two_round_trips():
    """Its settlement is all that its transaction would hold, and commits by itself."""
    outcome = tasks.add.enqueue(1, 2)
    with sent() as seen:
        run(outcome, tasks.add)
    assert seen == ["UPDATE", "WITH"]


def test_what_an_atomic_helper_sends_shares_a_transaction_with_its_outcome():
    """A helper that only reads has a transaction, too: what it has read is of one moment."""
    key = uuid4().hex
    outcome = tasks.record.enqueue(key)
    with sent() as seen:
        run(outcome, tasks.record)
    assert seen == ["UPDATE", "BEGIN", "INSERT", "WITH", "COMMIT"]


def test_what_follows_a_run_is_written_in_its_transaction():
    """A settlement that enqueues the next step of a chain does not commit before it."""
    outcome = tasks.add.apply_async((1, 2), link=tasks.add.si(3, 4))
    with sent() as seen:
        run(outcome, tasks.add)
    assert seen[:3] == ["UPDATE", "BEGIN", "WITH"]
    assert seen[-1] == "COMMIT"
    assert seen.count("COMMIT") == 1


def test_a_run_within_a_transaction_leaves_that_open():
    """Whoever runs a call in a transaction of their own commits it themselves."""
    with transaction.atomic():
        outcome = tasks.add.enqueue(1, 2)
        claimed = outcomes.claim(outcome.pk, frozenset({tasks.add.name}), "a worker")
        with sent() as seen:
            worker.execute(claimed, tasks.add.options, tasks.add.run, durable=False)
        assert seen == ["SAVEPOINT", "WITH", "RELEASE"]
        transaction.set_rollback(True)
    assert not Outcome.objects.filter(pk=outcome.pk).exists()


def test_one_commit_of_a_run_waits_for_the_disk():
    """The claim's commit need not be on disk, the settlement's must; there is no third one."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL lets one transaction leave the disk to later")
    outcome = tasks.add.enqueue(1, 2)
    with watched() as commits:
        run(outcome, tasks.add)
    assert [(state, waits) for state, waits, _transaction in commits] == [
        ("running", "off"),
        ("succeeded", "on"),
    ]
    assert len({transaction for _state, _waits, transaction in commits}) == 2


def test_an_enqueue_waits_for_the_disk_after_a_run():
    """The hasty claim leaves no mark on the connection."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL lets one transaction leave the disk to later")
    run(tasks.add.enqueue(1, 2), tasks.add)
    with watched() as commits:
        tasks.add.enqueue(1, 2)
    assert [waits for _state, waits, _transaction in commits] == ["on"]


def test_a_look_of_the_relay_costs_the_same_for_one_row_and_for_many(settings):
    """Announcing is paid for by the batch."""
    settings.TASKS_APP = {"MAX_IN_FLIGHT": 1_000}
    tasks.add.enqueue(1, 2)
    with verbs() as one:
        assert len(outbox.take_due(200, [tasks.add.name]).rows) == 1
    tasks.add.enqueue_many([(number, 1) for number in range(200)])
    with verbs() as many:
        assert len(outbox.take_due(200, [tasks.add.name]).rows) == 200
    assert one == many


def test_a_nearly_full_queue_is_left_alone(settings):
    """A queue is refilled once half of it is claimed, not after each claim."""
    settings.TASKS_APP = {"MAX_IN_FLIGHT": 10}
    ids = tasks.add.enqueue_many([(number, 1) for number in range(30)])
    names = [tasks.add.name]
    first = outbox.take_due(200, names).rows
    assert len(first) == 10
    assert set(ids) > {row.pk for row in first}
    for row in first[:4]:
        run(row, tasks.add)
    assert outbox.take_due(200, names).rows == []
    run(first[4], tasks.add)
    assert len(outbox.take_due(200, names).rows) == 5


@contextmanager
def watched() -> Iterator[list[tuple[str, str, int]]]:
    """Collect state, setting and transaction of every commit that touched an outcome's row."""
    commits: list[tuple[str, str, int]] = []
    with connection.cursor() as cursor:
        cursor.execute(WATCH)
        try:
            yield commits
            cursor.execute("SELECT state, synchronous, transaction FROM commits ORDER BY number")
            commits += cursor.fetchall()
        finally:
            cursor.execute(UNWATCH)


def test_one_row_is_found_by_its_id_whatever_the_statistics_say():
    """A table that was quiet when PostgreSQL last looked makes no later run search for its row."""
    if connection.vendor != "postgresql":
        pytest.skip("the other databases take the primary key wherever it is given")
    for pk in tasks.add.enqueue_many([(number, 1) for number in range(300)]):
        outcomes.cancel(pk)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_outcome")
    tasks.add.enqueue_many([(number, 1) for number in range(300)])
    outcome = tasks.add.enqueue(1, 2)
    with CaptureQueriesContext(connection) as captured:
        run(outcome, tasks.add)
    sent = [query["sql"] for query in captured.captured_queries]
    for sql in sent:
        if sql.split()[0] in {"UPDATE", "WITH"}:
            assert "tasks_app_outcome_pkey" in plan(sql)


def plan(sql: str) -> str:
    """Return how PostgreSQL would run a statement on a table too large to be read through."""
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"EXPLAIN {sql}")
        lines = [line for (line,) in cursor.fetchall()]
        cursor.execute("RESET enable_seqscan")
    return "\n".join(lines)
