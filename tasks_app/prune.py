"""
Prune: final outcomes are deleted once their state's retention is over.

In small batches, so that no lock is held for long; an outcome whose idempotency key is still in
force stays. Interrupted at any point, it leaves whole outcomes or none.
"""

from collections.abc import Iterator
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from tasks_app import stock
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.crash_points import crash_point
from tasks_app.models import (
    Attempt,
    Cause,
    Chord,
    IdempotencyKey,
    Outcome,
    Repeat,
    Slot,
    Subject,
    WebRequest,
)
from tasks_app.states import FINAL
from tasks_app.transience import pessimistic

#: Rows per transaction.
BATCH = 500


def prune() -> Iterator[int]:
    """Delete what retention allows; yield the number of outcomes of each batch deleted."""
    for state in sorted(FINAL):
        kept = conf.RETENTION[state]
        if kept is None:
            continue
        rows = Outcome.objects.filter(state=state, finished_at__lt=DatabaseNow() - kept)
        while deleted := _delete_batch(rows.filter(~_holds_key())):
            yield deleted
    yield from _delete_keys_and_chords()
    _delete_older_ones()


def count() -> int:
    """Return how many outcomes `prune` would delete now."""
    total = 0
    for state in FINAL:
        if conf.RETENTION[state] is not None:
            limit = DatabaseNow() - conf.RETENTION[state]
            total += Outcome.objects.filter(
                ~_holds_key(), state=state, finished_at__lt=limit
            ).count()
    return total


def _holds_key() -> Q:
    key = IdempotencyKey.objects.filter(outcome_id=OuterRef("pk"))
    return Q(Exists(key)) & Q(finished_at__gt=DatabaseNow() - conf.IDEMPOTENCY_TTL)


def _delete_batch(rows: QuerySet[Outcome]) -> int:
    ids = list(rows.order_by("finished_at").values_list("pk", flat=True)[:BATCH])
    if not ids:
        return 0
    with pessimistic(), transaction.atomic(using=conf.DATABASE):
        stock.forget(ids)
        Attempt.objects.filter(outcome_id__in=ids)._raw_delete(conf.DATABASE)
        Cause.objects.filter(outcome_id__in=ids)._raw_delete(conf.DATABASE)
        IdempotencyKey.objects.filter(outcome_id__in=ids)._raw_delete(conf.DATABASE)
        Subject.objects.filter(outcome_id__in=ids)._raw_delete(conf.DATABASE)
        Repeat.objects.filter(outcome_id__in=ids)._raw_delete(conf.DATABASE)
        Outcome.objects.filter(replay_of__in=ids).update(replay_of=None)
        Outcome.objects.filter(pk__in=ids)._raw_delete(conf.DATABASE)
    crash_point("prune.after_batch")
    return len(ids)


def _delete_keys_and_chords() -> Iterator[int]:
    done = Chord.objects.filter(finished_at__lt=DatabaseNow() - conf.IDEMPOTENCY_TTL)
    done._raw_delete(conf.DATABASE)
    yield from ()


def _delete_older_ones() -> None:
    """Delete web requests and slots that are older than any outcome but for those kept for ever."""
    spans = [span for span in conf.RETENTION.values() if span is not None]
    if not spans:
        return
    oldest = DatabaseNow() - max(spans)
    # A slot that waits has its outcome still to come.
    decided = Slot.objects.exclude(decision="queued", outcome_id=None)
    _delete(WebRequest.objects.filter(started_at__lt=oldest).order_by("started_at"))
    _delete(decided.filter(decided_at__lt=oldest).order_by("decided_at"))


def _delete(rows: QuerySet[Any]) -> None:
    while ids := list(rows.values_list("pk", flat=True)[:BATCH]):
        rows.model.objects.filter(pk__in=ids)._raw_delete(conf.DATABASE)
