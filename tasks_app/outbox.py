"""
The outbox: which waiting rows are due for a doorbell, and when they come due again.

No row is ever announced for good: each announcement moves `announce_at` ahead, and until some
worker claims the row it comes due again. Nothing here talks to a broker.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Case, Exists, F, Field, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce, Least

from tasks_app import outcomes
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.models import Outcome, PausedQueue, outcome_uuid
from tasks_app.options import PRIORITIES
from tasks_app.shapes import LONGEST_PEAL
from tasks_app.statements import (
    HastyCommit,
    Prepared,
    Slot,
    Sql,
    StateIs,
    await_disk,
    together,
    union,
)
from tasks_app.states import Reason, State
from tasks_app.transience import pessimistic

#: Wait before the next announcement, by how often a row was announced before.
WAITS = tuple(timedelta(seconds=s) for s in (30, 60, 120, 300, 600))

#: Rows per statement that is told their ids, and expired rows of paused queues per look.
IDS = 500

#: Candidates of one priority in one look.
MOST = 5_000

#: Announcements after which an unknown task is given up, once its time is over too.
UNANSWERED = 3


@dataclass(slots=True)
class Batch:
    """What one look took: rows to ring for, and rows that ended instead."""

    rows: list[Outcome] = field(default_factory=list)
    expired: list[Outcome] = field(default_factory=list)
    given_up: list[Outcome] = field(default_factory=list)
    #: Whether a queue has due rows and no room for their messages yet.
    is_held_back: bool = False


def take_due(
    limit: int, known_tasks: Iterable[str], rows_per_message: Callable[[str], int] = lambda _: 1
) -> Batch:
    """
    Take due rows, highest priority first, and move their next announcement ahead.

    Commits before it returns: a crash afterwards costs the wait until the next announcement.
    Rows that another relay holds are skipped, where the database can; those of paused queues stay
    as they are.

    Args:
        limit: Rows at most.
        known_tasks: Names registered here; a row whose task nobody here knows ends as `failed`
            (`unregistered`) after `UNREGISTERED_AFTER`.
        rows_per_message: How many rows of a queue share a message just now.
    """
    batch = Batch()
    for queue in open_queues():
        left = limit - len(batch.rows)
        most = conf.MAX_IN_FLIGHT * rows_per_message(queue)
        if left and (ids := _candidates(queue, min(left, most))):
            # Only now: where nothing is due nobody asks how many are in flight.
            room = _room(queue, limit, most)
            batch.is_held_back |= room < len(ids)
            _take_from(ids[:room], frozenset(known_tasks), batch)
    return batch


def take_named(ids: Iterable[UUID]) -> list[Outcome]:
    """
    Take those of a few rows that are due for the first time, and move their announcement ahead.

    One statement for each; on PostgreSQL its commit does not wait for the disk. A crash afterwards
    costs the wait until the next announcement.
    """
    found = (_first_announcement().run_returning(id=outcome_id) for outcome_id in ids)
    rows = [row for row in found if row is not None]
    for row in rows:
        row.announced -= 1
    return sorted(rows, key=lambda row: -row.priority)


@cache
def _first_announcement() -> Prepared:
    now = DatabaseNow()
    return Prepared(
        Outcome.objects.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=now),
            StateIs(State.PENDING),
            ~Exists(PausedQueue.objects.filter(name=OuterRef("queue"))),
            pk=Slot("id", Outcome._meta.pk),
            announced=0,
            announce_at__lte=now,
        ),
        {"announce_at": _until_expiry(now + WAITS[0]), "announced": F("announced") + 1},
    )


def waiting_queues() -> list[str]:
    """Return the queues of pending rows by hopping through the index, not by reading the rows."""
    queues: list[str] = []
    pending = Outcome.objects.filter(state=State.PENDING).order_by("queue")
    queue = pending.values_list("queue", flat=True).first()
    while queue is not None:
        queues.append(queue)
        queue = pending.filter(queue__gt=queue).values_list("queue", flat=True).first()
    return queues


def paused_queues() -> set[str]:
    """Return the queues that nothing is taken from until they are resumed."""
    return set(PausedQueue.objects.values_list("pk", flat=True))


def depths(queues: Iterable[str], most: int) -> dict[str, int]:
    """Return how many rows wait in each queue, counted to `most`, in one statement."""
    pending = Outcome.objects.filter(state=State.PENDING).order_by()
    parts = [pending.filter(queue=queue).values_list("queue")[:most] for queue in sorted(queues)]
    if not parts:
        return {}
    sql, params = union(parts)
    with connections[conf.DATABASE].cursor() as cursor:
        # Django wrote all but the frame.
        cursor.execute(f"SELECT queue, COUNT(*) FROM ({sql}) AS waiting GROUP BY queue", params)  # noqa: S608
        return dict(cursor.fetchall())


def open_queues() -> list[str]:
    """Return the queues of pending rows that are not paused."""
    queues = waiting_queues()
    paused = paused_queues() if queues else set()
    return [queue for queue in queues if queue not in paused]


def expire_paused() -> list[Outcome]:
    """
    End rows of paused queues whose time has passed; return them, as read before.

    Elsewhere a row that is due is taken, and its expiry seen; these are taken by nobody. No index
    knows when rows expire, so all that are due in such a queue are read: by one relay of all, every
    `RESCUE_INTERVAL`. Each is ended by a statement of its own.
    """
    return [
        row
        for queue in sorted(paused_queues())
        if _is_our_turn(queue)
        for row in _overdue(queue)[:IDS]
        if outcomes.expire(row.pk)
    ]


def _is_our_turn(queue: str) -> bool:
    now = DatabaseNow()
    turn = PausedQueue.objects.filter(pk=queue, searched_at__lte=now - conf.RESCUE_INTERVAL)
    return turn.update(searched_at=now) > 0


def _overdue(queue: str) -> QuerySet[Outcome]:
    now = DatabaseNow()
    return Outcome.objects.filter(
        state=State.PENDING,
        queue=queue,
        priority__in=PRIORITIES,
        announce_at__lte=now,
        expires_at__lte=now,
    )


def oldest_unannounced(queues: Iterable[str]) -> dict[str, datetime]:
    """Return since when each queue's oldest due row has waited for its bell, in one statement."""
    pending = Outcome.objects.filter(state=State.PENDING, announce_at__lte=DatabaseNow())
    parts = [
        pending.filter(queue=queue, priority=priority)
        .order_by("announce_at")
        .values_list("queue", "announce_at")[:1]
        for queue in sorted(queues)
        for priority in PRIORITIES
    ]
    found: dict[str, datetime] = {}
    for queue, announce_at in together(parts):
        found[queue] = min(found.get(queue, announce_at), announce_at)
    return found


def in_flight(queue: str, most: int) -> int:
    """Return how many announced rows of a queue nobody has claimed yet, counted to `most`."""
    return _announced(queue).values("pk")[:most].count()


def unanswered(queue: str) -> list[tuple[UUID, str, int]]:
    """Return id, task name and announcements of as many such rows as there are at most."""
    rows = _announced(queue).values_list("pk", "task_name", "announced")
    return list(rows[: conf.MAX_IN_FLIGHT * LONGEST_PEAL])


def recall(ids: Sequence[UUID]) -> int:
    """Make announced rows due at once whose message is believed lost; return how many."""
    now = DatabaseNow()
    rows = Outcome.objects.filter(
        StateIs(State.PENDING), pk__in=ids, announced__gt=0, announce_at__gt=now
    )
    return rows.update(announce_at=now)


def recall_queue(queue: str) -> int:
    """Make the announced rows of a queue due at once; return how many."""
    ids = list(_announced(queue).order_by("pk").values_list("pk", flat=True))
    return sum(recall(ids[place : place + IDS]) for place in range(0, len(ids), IDS))


def _announced(queue: str) -> QuerySet[Outcome]:
    now = DatabaseNow()
    return Outcome.objects.filter(
        state=State.PENDING,
        queue=queue,
        priority__in=PRIORITIES,
        announced__gt=0,
        announce_at__gt=now,
        # No announcement lies further ahead: what is delayed for longer is not even looked at.
        announce_at__lte=now + WAITS[-1],
    )


def _room(queue: str, limit: int, most: int) -> int:
    """
    Return how many more rows may have a message; 0 while that is not worth a look.

    A queue that is nearly full has enough to do. Topping it up for each claim would cost several
    statements for each outcome instead of for each batch.
    """
    room = most - in_flight(queue, most)
    return room if room >= min(limit, max(most // 2, 1)) else 0


def put_back(ids: Sequence[UUID]) -> None:
    """Make rows due again whose doorbell did not reach the broker."""
    Outcome.objects.filter(StateIs(State.PENDING), pk__in=ids, announced__gt=0).update(
        announce_at=DatabaseNow(), announced=F("announced") - 1
    )


def _take_from(ids: Sequence[UUID], known: frozenset[str], batch: Batch) -> None:
    if not ids:
        return
    with pessimistic(), transaction.atomic(using=conf.DATABASE):
        rows = list(_lock(ids))
        announce: list[Outcome] = []
        for row in rows:
            if row.expires_at is not None and row.expires_at <= row.now and outcomes.expire(row.id):
                batch.expired.append(row)
            elif _is_hopeless(row, known) and _give_up(row):
                batch.given_up.append(row)
            else:
                announce.append(row)
        if len(announce) < len(rows):
            await_disk()
        _move_ahead([row.pk for row in announce])
        batch.rows.extend(announce)


def _candidates(queue: str, room: int) -> list[UUID]:
    """Return ids of due rows by priority: one short range of the index for each, one statement."""
    connection = connections[conf.DATABASE]
    due = _due_by_priority(connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute(f"{due.text} LIMIT {room}", due.bound({"queue": queue}, connection))
        return [cast("UUID", outcome_uuid(row[0])) for row in cursor.fetchall()]


@cache
def _due_by_priority(vendor: str) -> Sql:
    """Return that statement for a kind of database, made once: it has ten parts."""
    queue = Slot("queue", cast("Field[Any, Any]", Outcome._meta.get_field("queue")))
    due = Outcome.objects.due().filter(queue=queue).order_by("announce_at", "pk").values("pk")
    return Sql(*union([due.filter(priority=each)[:MOST] for each in reversed(PRIORITIES)]))


def _lock(ids: Sequence[UUID]) -> QuerySet[Any]:
    now = DatabaseNow()
    due = Outcome.objects.filter(StateIs(State.PENDING), pk__in=ids, announce_at__lte=now)
    # An announcement that a crash forgets is made again.
    rows = due.annotate(now=now, commit=HastyCommit())
    rows = rows.order_by("-priority", "announce_at", "pk")
    features = connections[conf.DATABASE].features
    if not features.has_select_for_update:
        return rows
    return rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)


def _is_hopeless(row: Any, known: frozenset[str]) -> bool:
    return (
        row.task_name not in known
        and row.announced >= UNANSWERED
        and row.run_at + conf.UNREGISTERED_AFTER <= row.now
    )


def _give_up(row: Outcome) -> bool:
    error = f"No worker knew the task {row.task_name!r} for {conf.UNREGISTERED_AFTER}."
    return outcomes.give_up(row.id, Reason.UNREGISTERED, error)


def _move_ahead(ids: Sequence[UUID]) -> None:
    waits = [When(announced=n, then=Value(wait)) for n, wait in enumerate(WAITS[:-1])]
    later = DatabaseNow() + Case(*waits, default=Value(WAITS[-1]))
    Outcome.objects.filter(StateIs(State.PENDING), pk__in=ids).update(
        announce_at=_until_expiry(later), announced=F("announced") + 1
    )


def _until_expiry(later: Any) -> Least:
    """Return when a row that nobody takes is looked at again: when it expires, not long after."""
    return Least(later, Coalesce(F("expires_at"), later))
