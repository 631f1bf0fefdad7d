"""Beats that a test ticks by hand, and entries whose slots it lets come due."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from tasks_app.models import Leadership, Slot, Timer
from tasks_app.periodic import timers
from tasks_app.periodic.scheduler import Scheduler
from tests.project import app
from tests.testapp.tasks import add

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def beat() -> Scheduler:
    """Return a scheduler as beat makes it, without the thread of its upkeep."""
    made = Scheduler(app=app)
    made.upkeep.run_if_due = lambda: None
    return made


def entry(name: str = "sum", **columns: Any) -> PeriodicTask:
    """Make an entry: each minute `add(2, 3)`, unless said otherwise."""
    schedules = {"interval", "crontab", "solar", "clocked"} & columns.keys()
    if not schedules:
        columns["crontab"] = CrontabSchedule.objects.get_or_create(minute="*")[0]
    given = {"task": add.name, "args": "[2, 3]", **columns}
    return PeriodicTask.objects.create(name=name, **given)


def every(**span: int) -> IntervalSchedule:
    """Return an interval, such as `every(hours=1)`."""
    ((period, count),) = span.items()
    return IntervalSchedule.objects.get_or_create(every=count, period=period)[0]


def minutes_ago(count: int) -> datetime:
    """Return a slot of an entry that fires each minute, so many before the last one."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - count * MINUTE


def timer_of(row: PeriodicTask, **policy: Any) -> Timer:
    """Return an entry's timer, with a policy where one is given."""
    timers.attune(row)
    Timer.objects.filter(pk=row.pk).update(**policy)
    return Timer.objects.get(pk=row.pk)


def come_due(row: PeriodicTask, slot_at: datetime | None = None, **policy: Any) -> datetime:
    """Make an entry's undecided slots begin at a past one: the newest one unless said otherwise."""
    slot_at = slot_at or minutes_ago(0)
    timer_of(row, next_at=slot_at, due_at=slot_at, **policy)
    return slot_at


def decided(row: PeriodicTask) -> list[tuple[datetime, str]]:
    """Return an entry's slots and decisions, the oldest first."""
    rows = Slot.objects.filter(entry_id=row.pk).order_by("slot_at")
    return list(rows.values_list("slot_at", "decision"))


def depose() -> None:
    """Let the time of every leader run out."""
    Leadership.objects.update(until=datetime(2000, 1, 1, tzinfo=UTC))


def texts(**values: Any) -> dict[str, str]:
    """Return columns as the JSON texts that entries hold."""
    return {name: json.dumps(value) for name, value in values.items()}
