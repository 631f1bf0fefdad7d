"""The database's own log: one row for every change of an outcome, in the same transaction.

Triggers write it, on each of the databases. So it is complete whoever makes a change: a guarded
statement, a bypass of it, another process or a person at a prompt. What is rolled back leaves no
event. An update that only moves times, such as an announcement or a renewal, is an event too.

Events of one outcome stand in the order of its changes, since each of them waits for the row's
lock. Events of different outcomes are in no order: numbers are drawn before the commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, models

from tasks_app.models import Outcome

ACTS = ("insert", "update", "delete")


class Event(models.Model):
    """The log's table, which exists between `install` and `remove` only."""

    seq = models.BigAutoField(primary_key=True)
    outcome_id = models.UUIDField(db_index=True)
    act = models.CharField(max_length=6)
    from_state = models.CharField(max_length=16, null=True)  # noqa: DJ001 - null: there was none
    to_state = models.CharField(max_length=16, null=True)  # noqa: DJ001 - null: there is none
    from_fence = models.BigIntegerField(null=True)
    to_fence = models.BigIntegerField(null=True)
    attempt = models.IntegerField()
    finish_fence = models.BigIntegerField(null=True)
    worker = models.CharField(max_length=255)
    lease_until = models.DateTimeField(null=True)
    task_name = models.CharField(max_length=255)
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - null: none was given
    parent_id = models.UUIDField(null=True)
    at = models.DateTimeField()

    class Meta:
        app_label = "testapp"
        db_table = "outcome_event"
        managed = False

    def __str__(self) -> str:
        return f"{self.seq}: {self.outcome_id} {self.from_state} → {self.to_state}"


@dataclass(frozen=True, slots=True)
class OutcomeEvent:
    """
    One change of one outcome.

    Attributes:
        seq: Grows with every change of the same outcome.
        outcome_id: Whose change.
        act: What the statement was: insert, update or delete.
        from_state: State before; None for an insert.
        to_state: State after; None for a delete.
        from_fence: Fence before; None for an insert.
        to_fence: Fence after; None for a delete.
        attempt: The outcome's attempt after the change; for a delete, before it.
        finish_fence: The fence of the run that ended it, after the change.
        worker: The worker named by the row after the change.
        lease_until: End of the lease after the change.
        task_name: The outcome's task.
        idempotency_key: The outcome's key, if it has one.
        parent_id: The outcome whose helper enqueued it, if one did.
        at: The database's clock at the change.
    """

    seq: int
    outcome_id: UUID
    act: str
    from_state: str | None
    to_state: str | None
    from_fence: int | None
    to_fence: int | None
    attempt: int
    finish_fence: int | None = None
    worker: str = ""
    lease_until: datetime | None = None
    task_name: str = ""
    idempotency_key: str | None = None
    parent_id: UUID | None = None
    at: datetime | None = None


FIELDS = tuple(OutcomeEvent.__dataclass_fields__)

#: Columns that the row as it is after the change fills in (before it, for a delete).
COPIED = (
    "attempt",
    "finish_fence",
    "worker",
    "lease_until",
    "task_name",
    "idempotency_key",
    "parent_id",
)


def install() -> None:
    """Begin an empty log of the connected database; not inside a transaction."""
    remove()
    with connection.schema_editor() as editor:
        editor.create_model(Event)
    with connection.cursor() as cursor:
        for act in ACTS:
            for statement in _trigger(act):
                cursor.execute(statement)


def remove() -> None:
    """Drop the log and its triggers, if there are any."""
    table = Outcome._meta.db_table
    with connection.cursor() as cursor:
        existing = connection.introspection.table_names(cursor)
        for act in ACTS:
            if connection.vendor == "postgresql":
                cursor.execute(f"DROP TRIGGER IF EXISTS {_name(act)} ON {table}")
                cursor.execute(f"DROP FUNCTION IF EXISTS {_name(act)}()")
            else:
                cursor.execute(f"DROP TRIGGER IF EXISTS {_name(act)}")
    if Event._meta.db_table in existing:
        with connection.schema_editor() as editor:
            editor.delete_model(Event)


@contextmanager
def installed() -> Iterator[None]:
    """Keep a log for the block."""
    install()
    try:
        yield
    finally:
        remove()


def clear() -> None:
    """Forget all events, such as those of the rows that a test's end has deleted."""
    Event.objects.all().delete()


def events(since: int = 0) -> Iterator[OutcomeEvent]:
    """
    Yield the events after a number, in order.

    A number that was drawn but not committed may appear later than greater ones; whoever reads
    step by step must know that nobody writes meanwhile.
    """
    rows = Event.objects.filter(seq__gt=since).order_by("seq").values_list(*FIELDS)
    for row in rows.iterator():
        yield OutcomeEvent(*row)


def _name(act: str) -> str:
    return f"outcome_event_{act}"


def _trigger(act: str) -> Iterator[str]:
    """Yield the statements that make one trigger."""
    table = Outcome._meta.db_table
    head = f"TRIGGER {_name(act)} AFTER {act.upper()} ON {table} FOR EACH ROW"
    body = _body(act)
    match connection.vendor:
        case "sqlite":
            yield f"CREATE {head} BEGIN {body}; END"
        case "postgresql":
            yield (
                f"CREATE FUNCTION {_name(act)}() RETURNS trigger LANGUAGE plpgsql "
                f"AS $$ BEGIN {body}; RETURN NULL; END $$"
            )
            yield f"CREATE {head} EXECUTE FUNCTION {_name(act)}()"
        case "mysql":
            yield f"CREATE {head} {body}"


def _body(act: str) -> str:
    now = {
        "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
        "postgresql": "clock_timestamp()",
        "mysql": "UTC_TIMESTAMP(6)",
    }[connection.vendor]
    row = "OLD" if act == "delete" else "NEW"
    values = {
        "outcome_id": f"{row}.id",
        "act": f"'{act}'",
        "from_state": "NULL" if act == "insert" else "OLD.state",
        "to_state": "NULL" if act == "delete" else "NEW.state",
        "from_fence": "NULL" if act == "insert" else "OLD.fence",
        "to_fence": "NULL" if act == "delete" else "NEW.fence",
        **{column: f"{row}.{column}" for column in COPIED},
        "at": now,
    }
    table = Event._meta.db_table
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"
