"""
Stock: counts of outcomes and attempts for the metrics, taken beside the path of every call.

Every `METRICS_INTERVAL` one process adds what has ended since the last time to totals in one row
(`models.Stock`), so that a scrape reads that row however many outcomes there are. What ended within
the last minute is counted anew each time: a transaction may commit after others that began later.
One that commits later still is missed; whoever empties the table has all counted again.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import Count, F, Max, Min, Q, QuerySet, Sum

from tasks_app import rollups
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.forks import database_section
from tasks_app.models import Attempt, Heartbeat, Outcome, Slot, Stock
from tasks_app.states import FINAL, State
from tasks_app.transience import pessimistic

#: Kind of count → its labels, joined → number.
Counts = dict[str, dict[str, float]]

#: Primary key of the one row.
ROW = 1

#: How long a transaction may take from its last statement to its commit and still be counted.
SETTLING = timedelta(seconds=60)

#: Rests that a count earns by its own duration: a large table is counted less often.
RESTS = 20

#: How long the heartbeat of a process that is gone is remembered.
REMEMBERED = timedelta(days=1)

#: Upper bounds of the histograms' buckets, in seconds.
BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800)

#: Kinds that hold times, of which the latest counts; all others are added.
LATEST = frozenset({"schedule_succeeded_at"})

#: What django-celery-beat tells of a schedule in the headers of its calls.
SCHEDULE = "periodic_task_name"

#: Kind of the counts by minute.
MINUTES = "minutes"

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def key(*labels: str) -> str:
    """Return labels as the key of a count; `labels` takes them apart again."""
    return "\n".join(labels)


def labels(text: str) -> list[str]:
    """Return the labels of a key."""
    return text.split("\n")


class StockTaker:
    """Takes stock in turn with the other processes, from a thread of its own."""

    def __init__(self) -> None:
        self._next = 0.0

    def take_if_due(self) -> bool:
        """Take stock if nobody has for `METRICS_INTERVAL`; tell whether it was taken."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + conf.METRICS_INTERVAL.total_seconds() / 3
        with database_section(conf.DATABASE, keep=False):
            return _is_our_turn() and take()


def _is_our_turn() -> bool:
    now = DatabaseNow()
    rows = Stock.objects.filter(pk=ROW)
    if rows.filter(next_at__lte=now).update(next_at=now + conf.METRICS_INTERVAL):
        return True
    if not rows.exists():
        Stock.objects.bulk_create([Stock(pk=ROW)], ignore_conflicts=True)
    return False


def take() -> bool:
    """Count what has changed; False if somebody else did meanwhile."""
    began = time.monotonic()
    before = Stock.objects.annotate(now=DatabaseNow()).get(pk=ROW)
    until = before.now - SETTLING
    since = before.counted_until or BEGINNING
    last = _last_settled(before.attempts_until, until)
    settled = merged(
        _finished(since, until), _attempts(before.attempts_until, last), _missed(since, until)
    )
    merge(settled, _schedules(since))
    recent = merged(
        _finished(until, None),
        _attempts(last, None),
        _present(before.now),
        _ended_lately(until),
        _missed(until, None),
    )
    begin = rollups.beginning(since, until)
    points = rollups.by_step(_minutes(since, until, before.attempts_until, last, begin))
    merge(recent, _newest_minutes(until, last))
    with _locked() as row:
        if row is None or row.counted_until != before.counted_until:
            return False
        rest = timedelta(seconds=(time.monotonic() - began) * RESTS)
        Stock.objects.filter(pk=ROW).update(
            taken_at=before.now,
            next_at=before.now + max(conf.METRICS_INTERVAL, rest),
            counted_until=until,
            attempts_until=last,
            totals_json=json.dumps(merged(json.loads(row.totals_json), settled)),
            recent_json=json.dumps(recent),
        )
        if before.counted_until is None and begin is not None:
            rollups.clear(begin)
        rollups.write(points)
    rollups.prune(before.now)
    Heartbeat.objects.filter(seen_at__lt=DatabaseNow() - REMEMBERED)._raw_delete(conf.DATABASE)
    return True


def add(more: Counts) -> None:
    """Add to the totals what only this process knows."""
    with _locked() as row:
        if row is not None:
            totals = merged(json.loads(row.totals_json), more)
            Stock.objects.filter(pk=ROW).update(totals_json=json.dumps(totals))


def forget(ids: Iterable[Any]) -> None:
    """Take outcomes that are about to be deleted, in this transaction, out of the count."""
    with _locked() as row:
        if row is None or row.counted_until is None:
            return
        rows = Outcome.objects.filter(pk__in=ids, finished_at__lte=row.counted_until)
        pruned = _by_task_and_state(rows)
        if pruned:
            totals = merged(json.loads(row.totals_json), {"pruned": pruned})
            Stock.objects.filter(pk=ROW).update(totals_json=json.dumps(totals))


def merged(*parts: Counts) -> Counts:
    """Return counts of several times as one."""
    total: Counts = {}
    for part in parts:
        merge(total, part)
    return total


def merge(total: Counts, part: Mapping[str, Mapping[str, float]]) -> None:
    """Add counts to others, in place."""
    for kind, numbers in part.items():
        into = total.setdefault(kind, {})
        for name, number in numbers.items():
            if kind in LATEST:
                into[name] = max(into.get(name, 0), number)
            else:
                into[name] = into.get(name, 0) + number


@contextmanager
def _locked() -> Iterator[Stock | None]:
    """Hold the row for the block, in the caller's transaction or in one of its own."""
    with pessimistic(), transaction.atomic(using=conf.DATABASE):
        rows = Stock.objects.filter(pk=ROW)
        if connections[conf.DATABASE].features.has_select_for_update:
            rows = rows.select_for_update()
        yield rows.first()


def _window(since: datetime, until: datetime | None) -> QuerySet[Outcome]:
    rows = Outcome.objects.filter(state__in=sorted(FINAL), finished_at__gt=since)
    return rows if until is None else rows.filter(finished_at__lte=until)


def _finished(since: datetime, until: datetime | None) -> Counts:
    return {"finished": _by_task_and_state(_window(since, until))}


def _ended_lately(since: datetime) -> Counts:
    """Count by queue what has ended within `SETTLING`, which is a minute."""
    counted = _window(since, None).values_list("queue").annotate(count=Count("pk"))
    return {"ended_lately": dict(counted)}


def _by_task_and_state(rows: QuerySet[Outcome]) -> dict[str, float]:
    counted = rows.values_list("task_name", "state").annotate(count=Count("pk"))
    return {key(task, state): count for task, state, count in counted}


def _minutes(
    since: datetime, until: datetime, after: int, last: int, begin: datetime | None
) -> rollups.Points:
    """Count what has settled by minute, from where that has to begin to stay short."""
    attempts = Attempt.objects.filter(pk__gt=after, pk__lte=last)
    if begin is not None:
        attempts = attempts.filter(finished_at__gt=begin)
    return rollups.counted(_window(begin or since, until), attempts)


def _newest_minutes(until: datetime, last: int) -> Counts:
    """Count the minutes that have not settled, for charts that end now."""
    points = rollups.counted(_window(until, None), Attempt.objects.filter(pk__gt=last))
    return {MINUTES: {key(*place): number for place, number in rollups.flat(points)}}


def newest_minutes(recent: Counts) -> rollups.Points:
    """Return the minutes that had not settled when stock was taken."""
    counted = recent.get(MINUTES, {})
    return rollups.unflat((labels(name), number) for name, number in counted.items())


def _last_settled(after: int, until: datetime) -> int:
    """Return the last attempt before the first one that may have neighbours yet to come."""
    rows = Attempt.objects.filter(pk__gt=after)
    first = rows.filter(finished_at__gt=until).aggregate(first=Min("pk"))["first"]
    if first is not None:
        return int(first) - 1
    return int(rows.aggregate(last=Max("pk"))["last"] or after)


def _attempts(after: int, last: int | None) -> Counts:
    """Count attempts by task and state, and how long they waited and ran."""
    rows = Attempt.objects.filter(pk__gt=after)
    rows = rows if last is None else rows.filter(pk__lte=last)
    spans = {"wait": F("started_at") - F("due_at"), "run": F("finished_at") - F("started_at")}
    rows = rows.alias(**spans)
    wanted = {
        f"{span}_{place}": Count("pk", filter=Q(**{f"{span}__lte": timedelta(seconds=bound)}))
        for span in spans
        for place, bound in enumerate(BUCKETS)
    }
    grouped: Iterable[Mapping[str, Any]] = (
        rows.order_by()
        .values("outcome__task_name", "state")
        .annotate(
            count=Count("pk"),
            waited=Count("due_at"),
            wait_sum=Sum("wait"),
            run_sum=Sum("run"),
            **wanted,
        )
    )
    found: Counts = {}
    for group in grouped:
        task = group["outcome__task_name"]
        merge(found, {"attempts": {key(task, group["state"]): group["count"]}})
        for span, size in (("wait", group["waited"]), ("run", group["count"])):
            length = group[f"{span}_sum"] or timedelta(0)
            merge(found, {f"{span}_sum": {task: length.total_seconds()}})
            inside = [group[f"{span}_{place}"] for place in range(len(BUCKETS))]
            bounds = (*map(str, BUCKETS), "+Inf")
            numbers = zip(bounds, (*inside, size), strict=True)
            merge(found, {span: {key(task, bound): number for bound, number in numbers}})
    return found


def _schedules(since: datetime) -> Counts:
    """Return when each schedule last succeeded, as far as its calls carry its name."""
    rows = _window(since, None).filter(
        state=State.SUCCEEDED, options_json__contains=f'"{SCHEDULE}"'
    )
    found: Counts = {}
    for text, finished_at in rows.values_list("options_json", "finished_at").iterator():
        name = (json.loads(text).get("headers") or {}).get(SCHEDULE)
        if isinstance(name, str) and finished_at is not None:
            merge(found, {"schedule_succeeded_at": {name: finished_at.timestamp()}})
    return found


def _missed(since: datetime, until: datetime | None) -> Counts:
    """Count by schedule the slots that were left out because nobody decided them in time."""
    rows = Slot.objects.filter(decision="missed", decided_at__gt=since)
    rows = rows if until is None else rows.filter(decided_at__lte=until)
    counted = rows.order_by().values_list("name").annotate(count=Count("pk"))
    return {"schedule_missed": dict(counted)}


def _present(now: datetime) -> Counts:
    """Count what is not final, and remember since when the oldest of each queue has been due."""
    rows = Outcome.objects.filter(state__in=(State.PENDING, State.RUNNING))
    grouped = rows.values_list("state", "task_name", "queue").annotate(
        count=Count("pk"), oldest=Min("run_at")
    )
    found: Counts = {}
    oldest: dict[str, float] = {}
    for state, task, queue, count, run_at in grouped:
        merge(found, {"present": {key(task, state): count}})
        if state == State.PENDING:
            merge(found, {"depth": {queue: count}})
            if run_at <= now:
                oldest[queue] = min(oldest.get(queue, run_at.timestamp()), run_at.timestamp())
    return {**found, "oldest_due_at": oldest}
