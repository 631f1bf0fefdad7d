"""
Prometheus: what `/tasks/metrics` says, read from the stock and a few short looks at the tables.

A scrape is at most eleven statements, none of which reads more rows the more outcomes there are.
Labels are tasks and queues that this process knows, states and schedules; every other name is
`other`. Ids and arguments appear nowhere.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.apps import apps
from django.db.models import Count, Max, Q
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from tasks_app import outbox, stock
from tasks_app.broker import known_queues
from tasks_app.clock import DatabaseNow
from tasks_app.models import Heartbeat, Outcome, Stock
from tasks_app.options import declared
from tasks_app.states import AttemptState, State

OTHER = "other"

#: Kinds of process whose heartbeats are told.
KINDS = ("worker", "relay", "beat")

#: Why messages led to no run.
WHYS = ("refused", "unneeded")

#: Queues whose lag is asked for, at most: it is one statement for all of them.
QUEUES = 50

Values = Mapping[Any, float]


class OutcomeCollector(Collector):
    """Reads the database whenever it is collected; keeps nothing."""

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering it asks no database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        row = Stock.objects.annotate(now=DatabaseNow()).filter(pk=stock.ROW).first()
        if row is not None and row.taken_at is not None:
            counts = stock.merged(json.loads(row.totals_json), json.loads(row.recent_json))
            age = (row.now - row.taken_at).total_seconds()
            yield _gauge("stock_age_seconds", "Seconds since outcomes were counted.", {(): age})
            yield from _counted(counts)
            yield from _durations(counts)
            yield from _queues(counts, row.now)
            yield from _schedules(counts)
        yield from _present()
        yield from _processes()


registry = CollectorRegistry()
registry.register(OutcomeCollector())


def task_label(name: str) -> str:
    """Return a task's name, or `other` for one that nobody here has declared."""
    return name if name in declared else OTHER


def _counted(counts: stock.Counts) -> Iterator[Metric]:
    ended = _by_task(counts, "finished")
    there = {place: max(number, 0) for place, number in _minus(ended, counts).items()}
    there.update(_by_task(counts, "present"))
    yield _gauge("outcomes", "Outcomes that are there.", there, ("task", "state"))
    yield _counter("finished", "Outcomes that became final.", ended, ("task", "state"))
    attempts = _by_task(counts, "attempts")
    yield _counter("attempts", "Runs that ended.", attempts, ("task", "state"))
    lost = {place[:1]: n for place, n in attempts.items() if place[1] == AttemptState.LOST}
    yield _counter("rescued", "Runs whose worker was lost.", lost, ("task",))
    dropped = {(why,): counts.get("dropped", {}).get(why, 0) for why in WHYS}
    text = "Messages that led to no run: refused unseen, or not needed any more."
    yield _counter("dropped_messages", text, dropped, ("why",))


def _minus(ended: Values, counts: stock.Counts) -> dict[tuple[str, ...], float]:
    pruned = _by_task(counts, "pruned")
    return {place: number - pruned.get(place, 0) for place, number in ended.items()}


def _durations(counts: stock.Counts) -> Iterator[Metric]:
    for kind, text in (
        ("wait", "Seconds from when a run could begin to when it did."),
        ("run", "Seconds that a run took."),
    ):
        family = HistogramMetricFamily(f"tasks_app_{kind}_seconds", text, labels=("task",))
        found, sums = _by_task(counts, kind), _by_task(counts, f"{kind}_sum")
        for (task,), length in sorted(sums.items()):
            bounds = (*map(str, stock.BUCKETS), "+Inf")
            buckets = [(bound, found.get((task, bound), 0)) for bound in bounds]
            family.add_metric((task,), buckets, length)
        yield family


def _queues(counts: stock.Counts, now: datetime) -> Iterator[Metric]:
    known = sorted(known_queues(declared))
    depth = dict.fromkeys(((name,) for name in known), 0.0)
    age = dict.fromkeys(((name,) for name in known), 0.0)
    for name, number in counts.get("depth", {}).items():
        place = (name if (name,) in age else OTHER,)
        depth[place] = depth.get(place, 0) + number
    for name, oldest in counts.get("oldest_due_at", {}).items():
        place = (name if (name,) in age else OTHER,)
        age[place] = max(age.get(place, 0), now.timestamp() - oldest)
    yield _gauge("queue_depth", "Outcomes that wait, due or not.", depth, ("queue",))
    text = "How long the oldest due outcome has waited to run."
    yield _gauge("oldest_due_age_seconds", text, age, ("queue",))
    resting = outbox.paused_queues()
    paused = {(name,): float(name in resting) for name in known}
    yield _gauge("queue_paused", "1 while the queue is paused.", paused, ("queue",))
    lag = dict.fromkeys(((name,) for name in known), 0.0)
    awake = [name for name in known[:QUEUES] if name not in resting]
    for name, since in outbox.oldest_unannounced(awake).items():
        lag[name,] = max((now - since).total_seconds(), 0)
    text = "How long the oldest due outcome has waited to be announced."
    yield _gauge("relay_lag_seconds", text, lag, ("queue",))


def _present() -> Iterator[Metric]:
    running = Outcome.objects.filter(state=State.RUNNING)
    dead = Q(lease_until__lt=DatabaseNow())
    found = running.aggregate(all=Count("pk"), dead=Count("pk", filter=dead))
    yield _gauge("running_leases", "Outcomes that run.", {(): found["all"]})
    text = "Outcomes that run whose lease has run out: nobody has rescued them yet."
    yield _gauge("expired_leases", text, {(): found["dead"]})


def _processes() -> Iterator[Metric]:
    seen = Heartbeat.objects.values_list("kind").annotate(last=Max("seen_at"), now=DatabaseNow())
    age = {(kind,): (now - last).total_seconds() for kind, last, now in seen if kind in KINDS}
    text = "Seconds since a process of the kind last said that it lives."
    yield _gauge("heartbeat_age_seconds", text, age, ("kind",))


def _schedules(counts: stock.Counts) -> Iterator[Metric]:
    if not apps.is_installed("django_celery_beat"):
        return
    model = apps.get_model("django_celery_beat", "PeriodicTask")
    last = counts.get("schedule_succeeded_at", {})
    names = set(model.objects.values_list("name", flat=True))
    known = {(name,): last[name] for name in names if name in last}
    text = "When an outcome of the schedule last succeeded, in Unix time."
    yield _gauge("schedule_last_success_timestamp_seconds", text, known, ("schedule",))
    missed = {(name,): n for name, n in counts.get("schedule_missed", {}).items() if name in names}
    text = "Slots of the schedule that were left out, since nobody decided them in time."
    yield _counter("schedule_missed", text, missed, ("schedule",))


def _by_task(counts: stock.Counts, kind: str) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for text, number in counts.get(kind, {}).items():
        task, *rest = stock.labels(text)
        place = (task_label(task), *rest)
        found[place] = found.get(place, 0) + number
    return found


def _gauge(name: str, text: str, values: Values, labels: Sequence[str] = ()) -> Metric:
    return _filled(GaugeMetricFamily(f"tasks_app_{name}", text, labels=labels), values)


def _counter(name: str, text: str, values: Values, labels: Sequence[str]) -> Metric:
    return _filled(CounterMetricFamily(f"tasks_app_{name}", text, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Values) -> Metric:
    for place, number in sorted(values.items()):
        family.add_metric(place, number)
    return family
