"""
Idempotency keys: the same task and key lead to the same outcome.

The key's row and the outcome's row commit together. A second caller with the same key waits for
the first one's transaction, then gets its outcome; other arguments are an `IdempotencyConflict`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Case, Count, QuerySet, Value, When

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

#: Keys that are taken by one statement, outcomes whose repeats are noted by one pair.
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
        if _insert({key.scope: key}):
            crash_point("enqueue.after_reserve")
            return None
        row = IdempotencyKey.objects.filter(pk=key.scope).first()
        if row is None:
            continue
        holder = _living({row.outcome_id}).first()
        if holder is not None:
            _refuse_other_arguments(key, row)
            return holder
        if _take_over({key.scope: key}, {row.outcome_id}):
            return None
    raise _restless(key)


def reserve_many(keys: Mapping[int, Key]) -> dict[int, UUID]:
    """
    Take many keys; one statement for each `BATCH` of them that is free, four at most otherwise.

    Runs in the caller's transaction, in which the new outcomes' rows must follow. Of two callers
    with the same keys one waits for the other one's transaction, as in `reserve`.

    Args:
        keys: The keys by the position of their call.

    Returns:
        For each position whose key was taken before, the id of the outcome that holds it.

    Raises:
        IdempotencyConflict: as `reserve`, also between two calls of the same batch.
    """
    scopes = {position: key.scope for position, key in keys.items()}
    wanted: dict[str, Key] = {}
    for position, key in keys.items():
        first = wanted.setdefault(scopes[position], key)
        if first.digest != key.digest:
            raise _conflict(key, first.outcome_id)
    holders: dict[str, UUID] = {}
    # In an order that all callers have in common: they never wait for each other in a circle.
    order = sorted(wanted)
    for start in range(0, len(order), BATCH):
        holders |= _reserve({scope: wanted[scope] for scope in order[start : start + BATCH]})
    if wanted:
        crash_point("enqueue.after_reserve")
    return {
        position: holders[scope]
        for position, scope in scopes.items()
        if holders[scope] != keys[position].outcome_id
    }


def hand_over(key: Key) -> None:
    """Point the key at another outcome of the same arguments: a replay."""
    scope = key.scope
    rows = IdempotencyKey.objects.filter(pk=scope)
    # Written before anything is read: SQLite refuses a reader that turns writer beside another.
    while not (
        rows.update(arguments=key.digest, outcome_id=key.outcome_id) or _insert({scope: key})
    ):
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


def _reserve(wanted: Mapping[str, Key]) -> dict[str, UUID]:
    """Take the keys of some scopes; return who holds each now."""
    for _ in range(TAKEOVERS):
        if _insert(wanted) == len(wanted):
            return {scope: key.outcome_id for scope, key in wanted.items()}
        holders = _find(wanted)
        if len(holders) == len(wanted):
            return holders
    raise _restless(next(key for scope, key in wanted.items() if scope not in holders))


def _find(wanted: Mapping[str, Key]) -> dict[str, UUID]:
    """Return who holds each key, freed ones being taken; without those that changed hands."""
    rows = list(IdempotencyKey.objects.filter(pk__in=list(wanted)))
    taken = [row for row in rows if row.outcome_id != wanted[row.pk].outcome_id]
    living = set(_living({row.outcome_id for row in taken}).values_list("pk", flat=True))
    freed = [row for row in taken if row.outcome_id not in living]
    for row in taken:
        if row.outcome_id in living:
            _refuse_other_arguments(wanted[row.pk], row)
    ours = {row.pk: wanted[row.pk] for row in freed}
    holders = {row.pk: row.outcome_id for row in rows if row.pk not in ours}
    if freed and _take_over(ours, {row.outcome_id for row in freed}):
        holders |= {scope: key.outcome_id for scope, key in ours.items()}
    return holders


def _insert(wanted: Mapping[str, Key]) -> int:
    """Insert the keys that are not there; return how many that were."""
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
    rows = ", ".join(["(%s, %s, %s)"] * len(wanted))
    prepared = meta.get_field("outcome_id").get_db_prep_value
    values = [
        value
        for scope, key in wanted.items()
        for value in (scope, key.digest, prepared(key.outcome_id, connection))
    ]
    with connection.cursor() as cursor:
        cursor.execute(f"{verb} INTO {table} ({columns}) VALUES {rows}{tail}", values)
        return max(int(cursor.rowcount), 0)


def _living(outcome_ids: Collection[UUID]) -> QuerySet[Outcome]:
    """Return those outcomes that still hold their keys: not gone, and their time is not over."""
    free = When(finished_at__lte=DatabaseNow() - conf.IDEMPOTENCY_TTL, then=Value(value=True))
    return Outcome.objects.annotate(is_free=Case(free, default=Value(value=False))).filter(
        pk__in=outcome_ids, is_free=False
    )


def _take_over(freed: Mapping[str, Key], former: Collection[UUID]) -> bool:
    """
    Take freed keys: guarded by their last holders, so that one of several callers wins.

    Returns:
        Whether all of them were taken; of others some may have been.
    """
    rows = [
        IdempotencyKey(scope=scope, arguments=key.digest, outcome_id=key.outcome_id)
        for scope, key in freed.items()
    ]
    held = IdempotencyKey.objects.filter(outcome_id__in=former)
    return held.bulk_update(rows, ["arguments", "outcome_id"]) == len(rows)


def _refuse_other_arguments(key: Key, row: IdempotencyKey) -> None:
    if row.arguments != key.digest:
        raise _conflict(key, row.outcome_id)


def _restless(key: Key) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"The idempotency key {key.text!r} of {key.task_name} changes hands too quickly."
    )


def _conflict(key: Key, holder: UUID) -> IdempotencyConflict:
    msg = (
        f"The idempotency key {key.text!r} of {key.task_name} belongs to outcome {holder}, which "
        "was enqueued with other arguments. Use another key, or the same arguments."
    )
    return IdempotencyConflict(msg, outcome_id=holder)
