"""
What a call costs the database, pinned: statements, transactions, and waits for the disk.

Each number is a promise to those who size a database. A change that adds a round trip to every
outcome must change a line here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from tempfile import TemporaryFile
from uuid import uuid4

import pytest
from celery.app.task import Context
from celery.exceptions import Retry
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tasks_app import outbox, outcomes, worker
from tasks_app.clock import DatabaseNow
from tasks_app.idempotency import MOST_REPEATS
from tasks_app.models import Outcome
from tests.servers import Tap
from tests.statements import verbs, watched
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

#: What one run sends that fails and is to be repeated; the helper itself sends nothing.
RETRY = {
    "postgresql": ["UPDATE", "BEGIN", "ROLLBACK", "BEGIN", "UPDATE", "INSERT", "COMMIT"],
    "sqlite": ["UPDATE", "BEGIN", "ROLLBACK", "BEGIN", "UPDATE", "INSERT", "COMMIT"],
    "mysql": [
        *("BEGIN", "UPDATE", "SELECT", "COMMIT"),
        *("BEGIN", "ROLLBACK"),
        *("BEGIN", "UPDATE", "INSERT", "COMMIT"),
    ],
}

#: What one look of the relay sends that takes rows of one queue. Queues are found by hopping from
#: one to the next, paused ones are read, messages in flight are counted, and due rows are found;
#: then they are locked and moved ahead.
LOOK = {
    "postgresql": ["SELECT"] * 5 + ["BEGIN", "SELECT", "UPDATE", "COMMIT"],
    "sqlite": ["SELECT"] * 5 + ["BEGIN", "SELECT", "UPDATE", "COMMIT"],
    "mysql": ["SELECT"] * 5 + ["BEGIN", "SELECT", "UPDATE", "COMMIT"],
}

#: What `enqueue_many` of a thousand calls sends outside a transaction.
THOUSAND = {
    "postgresql": ["COPY"],
    "sqlite": ["BEGIN", "INSERT", "COMMIT"],
    "mysql": ["BEGIN", "INSERT", "COMMIT"],
}

#: A query in what libpq writes down of a connection.
QUERY = re.compile(r'\tF\t\d+\tQuery\t "\s*(\w+)')


@pytest.fixture(autouse=True)
def connected():
    """Open the connection first: what Django asks a new one is no part of a call."""
    connection.ensure_connection()
    Outcome.objects.exists()


@pytest.fixture
def tap() -> Iterator[Tap]:
    """Put a tap between the test's connection and PostgreSQL."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL's protocol is listened to")
    port = connection.settings_dict["PORT"]
    with Tap(int(port)) as started:
        connection.close()
        connection.settings_dict["PORT"] = started.port
        try:
            connection.ensure_connection()
            Outcome.objects.exists()
            started.take()
            yield started
        finally:
            connection.close()
            connection.settings_dict["PORT"] = port


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
        assert seen == ["COPY"]
    else:
        assert set(seen) == {"INSERT"}
    assert Outcome.objects.count() == 5_000


def test_a_thousand_calls_commit_once():
    """They are one transaction also where the caller has none."""
    with verbs() as seen:
        tasks.add.enqueue_many([(number, 1) for number in range(1_000)])
    if connection.vendor == "sqlite":
        # It takes so many values per statement as it was built for; one needs no transaction.
        seen = list(dict.fromkeys(seen))
        assert seen in (["INSERT"], THOUSAND["sqlite"])
    else:
        assert seen == THOUSAND[connection.vendor]


def test_many_keys_are_one_statement():
    """Nor does the number of keys show, up to 500; where some are taken, their holders are read."""
    calls = [(str(number),) for number in range(400)]
    with CaptureQueriesContext(connection) as free:
        tasks.record_once.enqueue_many(calls)
    with CaptureQueriesContext(connection) as mixed:
        tasks.record_once.enqueue_many([*calls, ("another",)])
    Outcome.objects.all().delete()
    with CaptureQueriesContext(connection) as freed:
        tasks.record_once.enqueue_many(calls[:200])
    assert on_keys(free) == ["INSERT"]
    assert on_keys(mixed) == ["INSERT", "SELECT"]
    assert on_keys(freed) == ["INSERT", "SELECT", "UPDATE"]


def test_many_keys_are_taken_in_the_order_of_their_hashes():
    """So two callers that share keys do not wait for each other in a circle."""
    with CaptureQueriesContext(connection) as captured:
        tasks.record_once.enqueue_many([(str(number),) for number in range(20)])
    sent = [query["sql"] for query in captured.captured_queries]
    (insert,) = (sql for sql in sent if "tasks_app_idempotencykey" in sql)
    scopes = re.findall(r"[0-9a-f]{64}", insert)[::2]
    assert len(scopes) == 20
    assert scopes == sorted(scopes)


def on_keys(captured) -> list[str]:
    """Return the first words of what was sent about keys."""
    sent = [query["sql"] for query in captured.captured_queries]
    return [sql.split(maxsplit=1)[0] for sql in sent if "tasks_app_idempotencykey" in sql]


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


def test_a_run_that_is_to_be_repeated_costs_what_it_did():
    """Claim, the helper's transaction rolled back, and the return with the attempt's row."""
    outcome = tasks.note_ids.enqueue(key=uuid4().hex, until=2)
    with verbs() as seen, pytest.raises(Retry):
        run(outcome, tasks.note_ids)
    assert seen == RETRY[connection.vendor]


def test_each_step_waits_for_postgresql_as_often_as_it_did(tap, settings):
    """Round trips, as the wire has them: what a database that is far away costs each task."""
    settings.TASKS_APP = {"MAX_IN_FLIGHT": 1_000}
    outcome = tasks.add.enqueue(1, 2)
    assert tap.take().round_trips == 1
    tasks.add.enqueue_many([(number, 1) for number in range(1_000)])
    # COPY waits until it may send.
    assert tap.take().round_trips == 2
    outbox.take_due(200, [tasks.add.name])
    assert tap.take().round_trips == 9
    run(outcome, tasks.add)
    assert tap.take().round_trips == 2
    with_a_row = tasks.record.enqueue(uuid4().hex)
    tap.take()
    run(with_a_row, tasks.record)
    assert tap.take().round_trips == 5


def test_a_retry_waits_for_postgresql_as_often_as_it_did(tap):
    """The helper's transaction was empty, so that neither its begin nor its end was sent."""
    outcome = tasks.note_ids.enqueue(key=uuid4().hex, until=2)
    tap.take()
    with pytest.raises(Retry):
        run(outcome, tasks.note_ids)
    assert tap.take().round_trips == 5


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


def test_one_commit_of_a_run_that_is_to_be_repeated_waits_for_the_disk():
    """A failure costs no more commits than a success does."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL lets one transaction leave the disk to later")
    outcome = tasks.note_ids.enqueue(key=uuid4().hex, until=2)
    with watched() as commits, pytest.raises(Retry):
        run(outcome, tasks.note_ids)
    assert [(state, waits) for state, waits, _transaction in commits] == [
        ("running", "off"),
        ("pending", "on"),
    ]


def test_an_announcement_need_not_be_on_disk():
    """One that a crash forgets is made again; an end that comes with it has to stay."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL lets one transaction leave the disk to later")
    tasks.add.enqueue(1, 2)
    with watched() as announced:
        outbox.take_due(10, [tasks.add.name])
    assert [(state, waits) for state, waits, _transaction in announced] == [("pending", "off")]
    late = tasks.add.using(expires=60).enqueue(3, 4)
    tasks.add.enqueue(5, 6)
    Outcome.objects.filter(pk=late.pk).update(expires_at=DatabaseNow())
    with watched() as ended:
        outbox.take_due(10, [tasks.add.name])
    assert {(state, waits) for state, waits, _transaction in ended} == {
        ("expired", "on"),
        ("pending", "on"),
    }


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
    assert one == many == LOOK[connection.vendor]


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


def test_rows_that_are_not_due_are_not_counted():
    """However many wait for their time: a look asks for due ones, and goes to sleep again."""
    add_later = tasks.add.using(run_after=timedelta(days=1))
    add_later.enqueue_many([(number, 1) for number in range(3)])
    with verbs() as seen:
        batch = outbox.take_due(200, [tasks.add.name])
    assert (batch.rows, batch.is_held_back) == ([], False)
    # The queues (two hops), the paused ones, and what is due.
    assert seen == ["SELECT"] * 4


def test_a_full_queue_says_so(settings):
    """The relay then looks again before what the broker has is used up."""
    settings.TASKS_APP = {"MAX_IN_FLIGHT": 10}
    tasks.add.enqueue_many([(number, 1) for number in range(30)])
    assert len(outbox.take_due(200, [tasks.add.name]).rows) == 10
    batch = outbox.take_due(200, [tasks.add.name])
    assert (batch.rows, batch.is_held_back) == ([], True)


def test_what_is_delayed_for_long_is_not_read_to_count_what_is_in_flight():
    """The index leads to the minutes in which announcements come due again, and no further."""
    tasks.add.enqueue_many([(number, 1) for number in range(3)])
    batch = outbox.take_due(200, [tasks.add.name])
    Outcome.objects.filter(pk=batch.rows[0].pk).update(
        announce_at=DatabaseNow() + outbox.WAITS[-1] + timedelta(minutes=1)
    )
    Outcome.objects.filter(pk=batch.rows[1].pk).update(
        announce_at=DatabaseNow() + outbox.WAITS[-1] - timedelta(minutes=1)
    )
    assert outbox.in_flight("celery", 10) == 2


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
