"""
Idempotency keys: the same task and key lead to the same outcome.

The key's row and the outcome's row commit together. A second caller with the same key waits for
the first one's transaction, then gets its outcome; other arguments are an `IdempotencyConflict`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Case, Count, Value, When

from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.crash_points import crash_point
from tasks_app.exceptions import IdempotencyConflict
from tasks_app.models import IdempotencyKey, Outcome, Repeat
from tasks_app.redaction import is_clean

#: Takeovers of a freed key that may be lost to others before this caller gives up.
TAKEOVERS = 5

#: Repeats that are kept of one outcome, the first ones: a hot key must not flood the table.
MOST_REPEATS = 20

#: Outcomes whose repeats are noted by one pair of statements.
BATCH = 500

#: A key that was made of secrets.
CONCEALED = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Key:
    """One use of a key: for which task, with which arguments, by which new outcome."""

    task_name: str
    text: str
    digest: str
    outcome_id: UUID

    @property
    def scope(self) -> str:
        """The row's primary key: a hash, so that length and collation never matter."""
        if CONCEALED.fullmatch(self.text):
            return self.text.partition(":")[2]
        return _scope(self.task_name, self.text)


def conceal(task_name: str, text: str, secrets: Sequence[str]) -> str:
    """
    Return a key as its outcome may hold it, show it and pass it on: by its hash if it has secrets.

    Either form of a key leads to the same row.
    """
    if is_clean(text, secrets) or CONCEALED.fullmatch(text):
        return text
    return f"sha256:{_scope(task_name, text)}"


def reserve(key: Key) -> Outcome | None:
    """
    Take the key for a new outcome; one statement when it is free.

    Runs in the caller's transaction, in which the new outcome's row must follow.

    Returns:
        None when the key is taken for `key.outcome_id`, else the outcome that holds it.

    Raises:
        IdempotencyConflict: the holder was enqueued with other arguments.
    """
    for _ in range(TAKEOVERS):
        if _insert(key):
            crash_point("enqueue.after_reserve")
            return None
        row = IdempotencyKey.objects.filter(pk=key.scope).first()
        if row is None:
            continue
        holder = _holder(row)
        if holder is not None:
            _refuse_other_arguments(key, row)
            return holder
        if _take_over(key, row):
            return None
    msg = f"The idempotency key {key.text!r} of {key.task_name} changes hands too quickly."
    raise IdempotencyConflict(msg)


def reserve_many(keys: Mapping[int, Key]) -> dict[int, UUID]:
    """
    Take many keys; one statement for each that is free.

    Args:
        keys: The keys by the position of their call.

    Returns:
        For each position whose key was taken before, the id of the outcome that holds it.

    Raises:
        IdempotencyConflict: as `reserve`, also between two calls of the same batch.
    """
    first: dict[str, tuple[int, Key]] = {}
    again: list[tuple[int, Key]] = []
    existing: dict[int, UUID] = {}
    for position, key in keys.items():
        _, holder = first.setdefault(key.scope, (position, key))
        if holder is not key:
            if holder.digest != key.digest:
                raise _conflict(key, holder.outcome_id)
            again.append((position, key))
    for position, key in first.values():
        holder_outcome = reserve(key)
        if holder_outcome is not None:
            existing[position] = holder_outcome.id
    for position, key in again:
        place, holder = first[key.scope]
        existing[position] = existing.get(place, holder.outcome_id)
    return existing


def hand_over(key: Key) -> None:
    """Point the key at another outcome of the same arguments: a replay."""
    rows = IdempotencyKey.objects.filter(pk=key.scope)
    # Written before anything is read: SQLite refuses a reader that turns writer beside another.
    while not (rows.update(arguments=key.digest, outcome_id=key.outcome_id) or _insert(key)):
        continue


def note_repeats(
    outcome_ids: Sequence[UUID], request_id: str | None, parent_id: Any, owner_pk: Any
) -> None:
    """
    Remember who asked again for outcomes that keys led to; two statements, one once it is enough.

    Runs in the caller's transaction: who rolls back has not asked. Callers that do not see each
    other yet may leave a few more than `MOST_REPEATS`.
    """
    for start in range(0, len(outcome_ids), BATCH):
        asked = outcome_ids[start : start + BATCH]
        noted = _noted(asked)
        new = []
        for outcome_id in asked:
            noted[outcome_id] += 1
            if noted[outcome_id] <= MOST_REPEATS:
                new.append(
                    Repeat(
                        outcome_id=outcome_id,
                        request_id=request_id,
                        parent_id=parent_id,
                        owner_pk="" if owner_pk is None else str(owner_pk),
                    )
                )
        Repeat.objects.bulk_create(new)


def _noted(outcome_ids: Sequence[UUID]) -> Counter[UUID]:
    rows = Repeat.objects.filter(outcome_id__in=set(outcome_ids)).values_list("outcome_id")
    return Counter(dict(rows.annotate(count=Count("pk"))))


def holder_of(task_name: str, text: str) -> UUID | None:
    """Return the id of the outcome that a task's key stands for, if it stands for any."""
    scope = Key(task_name, text, "", UUID(int=0)).scope
    rows = IdempotencyKey.objects.filter(pk=scope)
    holder: UUID | None = rows.values_list("outcome_id", flat=True).first()
    return holder


def holders_of(task_names: Sequence[str], text: str) -> list[UUID]:
    """Return the ids of the outcomes that a key stands for, in whichever of these tasks."""
    scopes = {Key(name, text, "", UUID(int=0)).scope for name in task_names}
    return list(IdempotencyKey.objects.filter(pk__in=scopes).values_list("outcome_id", flat=True))


def _scope(task_name: str, text: str) -> str:
    return hashlib.sha256(f"{task_name}\0{text}".encode()).hexdigest()


def _insert(key: Key) -> bool:
    connection = connections[conf.DATABASE]
    meta = IdempotencyKey._meta
    table = connection.ops.quote_name(meta.db_table)
    columns = ", ".join(connection.ops.quote_name(str(f.column)) for f in meta.concrete_fields)
    # MariaDB's IGNORE also shortens values that are too long; these are hashes of one length.
    verb, tail = (
        ("INSERT IGNORE", "")
        if connection.vendor == "mysql"
        else ("INSERT", " ON CONFLICT DO NOTHING")
    )
    holder = meta.get_field("outcome_id").get_db_prep_value(key.outcome_id, connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"{verb} INTO {table} ({columns}) VALUES (%s, %s, %s){tail}",
            [key.scope, key.digest, holder],
        )
        return bool(cursor.rowcount > 0)


def _holder(row: IdempotencyKey) -> Outcome | None:
    """Return the outcome that still holds the key; None once it is gone or its time is over."""
    free = When(finished_at__lte=DatabaseNow() - conf.IDEMPOTENCY_TTL, then=Value(value=True))
    return (
        Outcome.objects.annotate(is_free=Case(free, default=Value(value=False)))
        .filter(pk=row.outcome_id, is_free=False)
        .first()
    )


def _take_over(key: Key, row: IdempotencyKey) -> bool:
    """Take a freed key: guarded by its last holder, so that one of several callers wins."""
    rows = IdempotencyKey.objects.filter(pk=row.pk, outcome_id=row.outcome_id)
    return rows.update(arguments=key.digest, outcome_id=key.outcome_id) > 0


def _refuse_other_arguments(key: Key, row: IdempotencyKey) -> None:
    if row.arguments != key.digest:
        raise _conflict(key, row.outcome_id)


def _conflict(key: Key, holder: UUID) -> IdempotencyConflict:
    msg = (
        f"The idempotency key {key.text!r} of {key.task_name} belongs to outcome {holder}, which "
        "was enqueued with other arguments. Use another key, or the same arguments."
    )
    return IdempotencyConflict(msg, outcome_id=holder)
