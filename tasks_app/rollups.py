"""
Rollups: what ended in each minute, ten minutes, hour and day, counted for the dashboard's charts.

Whoever takes stock (`stock.py`) adds here what has settled, in the transaction and under the lock
of its totals: each end is counted once, and nothing is added to the path of a call. Rows are
deleted when their span is too long ago to be shown that finely.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from django.db.models import Count, F, Q, QuerySet, Value
from django.db.models.functions import Floor

from tasks_app.conf import conf
from tasks_app.histograms import Seconds, bucket
from tasks_app.models import Attempt, Outcome, Rollup
from tasks_app.states import FINAL

#: Kind of count → name → number: `ended` and `attempts` by state, `wait` and `run` by bucket.
Point = dict[str, Counter[str]]

#: Start in Unix time and task, "" for all tasks together → what ended in that span.
Points = dict[tuple[int, str], Point]

MINUTE, TEN_MINUTES, HOUR, DAY = 60, 600, 3600, 86_400

#: Length of a row's span in seconds → how long the row is kept.
KEPT: Mapping[int, timedelta] = {
    MINUTE: timedelta(days=1),
    TEN_MINUTES: timedelta(days=8),
    HOUR: timedelta(days=90),
    DAY: timedelta(days=90),
}

#: Spans for which each task has a row beside that of all tasks together.
BY_TASK = frozenset({TEN_MINUTES, HOUR, DAY})

#: Outcomes of one state at most that a first count reads, and one after a long pause.
BACKFILL = 100_000

#: A count that begins no longer ago than this reads everything.
SHORT_PAUSE = timedelta(hours=1)

#: Rows per statement, and per batch that is deleted.
BATCH = 500

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(seconds: float) -> datetime:
    """Return a time from Unix time."""
    return datetime.fromtimestamp(seconds, UTC)


def beginning(since: datetime, until: datetime) -> datetime | None:
    """
    Return where a count of what has ended has to begin to stay short; None: where it likes.

    A first count, or one after a long pause, goes back to the beginning of yesterday (UTC), and no
    further than the newest `BACKFILL` outcomes of any state.
    """
    if until - since <= SHORT_PAUSE:
        return None
    first = max(since, moment((until.timestamp() // DAY - 1) * DAY))
    for state in sorted(FINAL):
        rows = Outcome.objects.filter(state=state, finished_at__gt=first, finished_at__lte=until)
        newest = rows.order_by("-finished_at").values_list("finished_at", flat=True)
        # All of one minute or nothing of it.
        for last in newest[BACKFILL : BACKFILL + 1]:
            first = cast("datetime", last).replace(second=0, microsecond=0) + timedelta(minutes=1)
    return first


def counted(outcomes: QuerySet[Outcome], attempts: QuerySet[Attempt]) -> Points:
    """Count ends by minute and task; the database does the counting."""
    points: Points = {}
    minute = Floor(Seconds(F("finished_at"), Value(EPOCH)) / Value(float(MINUTE)))
    ended = outcomes.order_by().annotate(minute=minute)
    for number, task, state, count in ended.values_list("minute", "task_name", "state").annotate(
        count=Count("pk")
    ):
        _into(points, number, task)["ended"][state] += count
    runs = attempts.order_by().annotate(
        minute=minute,
        task=F("outcome__task_name"),
        wait=bucket("started_at", "due_at"),
        run=bucket("finished_at", "started_at"),
    )
    names = ("minute", "task", "state", "wait", "run")
    for number, task, state, wait, run, count in runs.values_list(*names).annotate(
        count=Count("pk")
    ):
        point = _into(points, number, task)
        point["attempts"][state] += count
        point["run"][str(int(run))] += count
        if wait is not None:
            point["wait"][str(int(wait))] += count
    return points


def _into(points: Points, minute: float, task: str) -> Point:
    return points.setdefault((int(minute) * MINUTE, task), empty())


def empty() -> Point:
    """Return the counts of a span in which nothing ended."""
    return {"ended": Counter(), "attempts": Counter(), "wait": Counter(), "run": Counter()}


def add(into: Point, more: Mapping[str, Mapping[str, float]]) -> None:
    """Add counts to others, in place."""
    for kind, numbers in more.items():
        into.setdefault(kind, Counter()).update(cast("Mapping[str, int]", numbers))


def coarser(points: Points, step: int) -> Points:
    """Return points of longer spans, of the same tasks."""
    found: Points = {}
    for (start, task), point in points.items():
        add(found.setdefault((start // step * step, task), empty()), point)
    return found


def together(points: Points) -> Points:
    """Return the points of all tasks together."""
    found: Points = {}
    for (start, _), point in points.items():
        add(found.setdefault((start, ""), empty()), point)
    return found


def by_step(points: Points) -> dict[int, Points]:
    """Return what `write` adds to the rows of each step; needs no transaction."""
    found = {}
    for step in sorted(KEPT):
        points = coarser(points, step)
        found[step] = {**together(points), **(points if step in BY_TASK else {})}
    return found


def write(points_by_step: Mapping[int, Points]) -> None:
    """Add counts to their rows, in the caller's transaction, which keeps all others from it."""
    for step, points in points_by_step.items():
        _write(step, points)


def _write(step: int, points: Points) -> None:
    starts = sorted({moment(start) for start, _ in points})
    rows = Rollup.objects.filter(step=step, start_at__in=starts)
    there = {(int(row.start_at.timestamp()), row.task_name): row for row in rows}
    for place, row in there.items():
        if place in points:
            add(points[place], json.loads(row.counts_json))
            row.counts_json = _text(points[place])
    new = [
        Rollup(step=step, start_at=moment(start), task_name=task, counts_json=_text(point))
        for (start, task), point in points.items()
        if (start, task) not in there
    ]
    changed = [row for place, row in there.items() if place in points]
    Rollup.objects.bulk_update(changed, ["counts_json"], batch_size=BATCH)
    Rollup.objects.bulk_create(new, batch_size=BATCH)


def _text(point: Point) -> str:
    kept = {kind: numbers for kind, numbers in point.items() if numbers}
    return json.dumps(kept, separators=(",", ":"), sort_keys=True)


def clear(since: datetime) -> None:
    """Forget the days from this one on, in the caller's transaction: they are counted anew."""
    day = moment(since.timestamp() // DAY * DAY)
    Rollup.objects.filter(start_at__gte=day)._raw_delete(conf.DATABASE)


def prune(now: datetime) -> int:
    """Delete a batch of rows that are no longer kept; return how many."""
    old = Q()
    for step, kept in KEPT.items():
        old |= Q(step=step, start_at__lt=now - kept)
    ids = list(Rollup.objects.filter(old).values_list("pk", flat=True)[:BATCH])
    if ids:
        Rollup.objects.filter(pk__in=ids)._raw_delete(conf.DATABASE)
    return len(ids)


def read(step: int, since: datetime) -> Points:
    """Return the points of all tasks together, as far as they have settled."""
    rows = Rollup.objects.filter(step=step, start_at__gte=since, task_name="")
    return _points(rows.values_list("start_at", "task_name", "counts_json"))


def read_failing(step: int, since: datetime, limit: int) -> Points:
    """Return the points of each task that failed at least once, newest first up to a limit."""
    rows = Rollup.objects.filter(step=step, start_at__gte=since).exclude(task_name="")
    failing = rows.filter(counts_json__contains='"failed"').values("task_name")
    newest = rows.filter(task_name__in=failing).order_by("-start_at")
    return _points(newest.values_list("start_at", "task_name", "counts_json")[:limit])


def _points(rows: Iterable[Any]) -> Points:
    points: Points = {}
    for start_at, task, text in rows:
        point = points[int(start_at.timestamp()), task] = empty()
        add(point, json.loads(text))
    return points


def flat(points: Points) -> Iterator[tuple[tuple[str, str, str], int]]:
    """Yield each number of points of all tasks together with its start, kind and name."""
    for (start, _), point in together(points).items():
        for kind, numbers in point.items():
            for name, number in numbers.items():
                yield (str(start), kind, name), number


def unflat(numbers: Iterable[tuple[Iterable[str], float]]) -> Points:
    """Return the points that `flat` took apart."""
    points: Points = {}
    for (start, kind, name), number in numbers:
        add(points.setdefault((int(start), ""), empty()), {kind: {name: number}})
    return points
