"""The tables as the migrations make them, on the database of the run."""

from __future__ import annotations

import io

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext

from tasks_app import outcomes
from tasks_app.leases import Lease
from tasks_app.models import Attempt, Chord, Heartbeat, IdempotencyKey, Outcome, Stock
from tasks_app.trouble import missing_tables
from tasks_app.uuid7 import uuid7
from tests.integration.command_line import claimed, rewritten
from tests.testapp.tasks import add, record_once

pytestmark = pytest.mark.django_db(transaction=True)

MODELS = (Outcome, Attempt, IdempotencyKey, Chord, Heartbeat, Stock)


def tables():
    """Return those of the app's tables that are there."""
    found = set(connection.introspection.table_names())
    return found & {model._meta.db_table for model in MODELS}


def columns():
    """Return name, type and nullability of each column of the outcomes."""
    with connection.cursor() as cursor:
        described = connection.introspection.get_table_description(cursor, Outcome._meta.db_table)
    return [(column.name, column.type_code, column.null_ok) for column in described]


@pytest.fixture
def migrated():
    """Leave the tables there, whatever the test has made of them."""
    yield
    call_command("migrate", "tasks_app", verbosity=0)


def test_the_migrations_say_what_the_models_say():
    """`makemigrations` has nothing to add."""
    output = io.StringIO()
    call_command("makemigrations", "tasks_app", check=True, dry_run=True, stdout=output)
    assert "No changes detected" in output.getvalue()


@pytest.mark.usefixtures("migrated")
def test_the_tables_go_and_come_back():
    """Back to zero leaves nothing; from zero on the app works as before."""
    before = columns()
    call_command("migrate", "tasks_app", "zero", verbosity=0)
    assert tables() == set()
    assert "run `manage.py migrate`" in missing_tables()
    call_command("migrate", "tasks_app", verbosity=0)
    assert tables() == {model._meta.db_table for model in MODELS}
    assert columns() == before
    assert missing_tables() == ""
    record_once.enqueue("key")
    outcomes.succeed(Lease.of(claimed(add.enqueue(1, 2))), "3")
    assert Outcome.objects.filter(state="succeeded").get().result == 3


@pytest.mark.usefixtures("migrated")
def test_the_tables_go_with_rows_in_them():
    """Rows do not keep a project from leaving."""
    outcomes.succeed(Lease.of(claimed(record_once.enqueue("key"))), "1")
    call_command("migrate", "tasks_app", "zero", verbosity=0)
    assert tables() == set()


def first_version(name):
    """Return a model as the code of the first migration knows it."""
    loader = MigrationExecutor(connection).loader
    return loader.project_state(("tasks_app", "0001_initial")).apps.get_model("tasks_app", name)


@pytest.mark.usefixtures("migrated")
def test_rows_survive_the_way_back_and_forth():
    """What is taken back loses what its migration brought, and no row."""
    outcome = claimed(add.enqueue(1, 2))
    outcomes.succeed(Lease.of(outcome), "3")
    call_command("migrate", "tasks_app", "0001", verbosity=0)
    assert first_version("Outcome").objects.get().state == "succeeded"
    call_command("migrate", "tasks_app", verbosity=0)
    outcome.refresh()
    assert (outcome.result, outcome.trace_context) == (3, "")
    assert outcome.attempts.get().log == ""


def test_processes_of_the_first_version_go_on_writing():
    """A deployment migrates first: their rows lack the new columns, which have defaults."""
    row = first_version("Outcome")(task_name=add.name, queue="celery", root_id=uuid7())
    row.pk = row.root_id
    row.save(force_insert=True)
    outcome = claimed(Outcome.objects.get())
    first_version("Attempt").objects.create(
        outcome_id=outcome.pk,
        number=1,
        fence=outcome.fence,
        state="succeeded",
        worker=outcome.worker,
        started_at=outcome.claimed_at,
    )
    assert (outcome.trace_context, outcome.attempts.get().log) == ("", "")


@pytest.mark.usefixtures("migrated")
def test_no_writer_waits_while_indexes_are_made_and_dropped():
    """A table of many millions of rows is migrated beside those who write it, and back."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL locks writers out unless it is told not to")
    with CaptureQueriesContext(connection) as captured:
        call_command("migrate", "tasks_app", "0005", verbosity=0)
        call_command("migrate", "tasks_app", "0006", verbosity=0)
    sent = [query["sql"] for query in captured.captured_queries]
    changes = [sql for sql in sent if sql.startswith(("CREATE INDEX", "DROP INDEX"))]
    assert len(changes) == 6
    assert all(" INDEX CONCURRENTLY " in sql for sql in changes)


@pytest.mark.parametrize(
    ("rows", "index"),
    [
        (Outcome.objects.filter(replay_of__in=[uuid7() for _ in range(500)]), "replays"),
        (Outcome.objects.filter(group_id="a group"), "members"),
    ],
    ids=["replays of a batch that is pruned", "members of a group"],
)
def test_few_rows_are_found_among_many(rows, index):
    """What most outcomes have not is looked for in an index of those that have it."""
    add.enqueue_many([(number, 1) for number in range(100)])
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # So few rows are read at once unless that is forbidden.
            cursor.execute("SET enable_seqscan = off")
        try:
            assert f"tasks_outcome_{index}" in rows.explain()
        finally:
            if connection.vendor == "postgresql":
                cursor.execute("RESET enable_seqscan")


@pytest.mark.parametrize(
    "values",
    [
        {"state": "unheard_of"},
        {"state": "running"},
        {"state": "succeeded"},
        {"finished_at": "2026-01-01T00:00:00Z"},
        {"lease_until": "2026-01-01T00:00:00Z"},
        {"attempt": 1},
    ],
    ids=str,
)
def test_the_database_refuses_what_no_path_may_leave(values):
    """Running means leased, final means finished, and no run is without its fence."""
    outcome = add.enqueue(1, 2)
    with pytest.raises(IntegrityError), transaction.atomic():
        rewritten(outcome, **values)
    outcome.refresh()
    assert outcome.state == "pending"


def test_a_run_has_one_record():
    """One fence, one attempt."""
    outcome = claimed(add.enqueue(1, 2))
    outcomes.succeed(Lease.of(outcome), "3")
    record = outcome.attempts.get()
    record.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        record.save(force_insert=True)
