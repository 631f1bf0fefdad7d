"""
Beat with many entries: its statements and its CPU per minute, beside django-celery-beat's own.

Both schedulers run in processes of their own, one after the other, on the same rows: each entry
fires once an hour, in a minute of its own, so that a sixtieth is due in each.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import django
from django.db import connection

from benchmarks.contestants import Ground
from tests.servers import PostgreSQL, Redis

#: Contestant → its scheduler.
SCHEDULERS = {
    "django-celery-beat": "django_celery_beat.schedulers:DatabaseScheduler",
    "tasks_app": "tasks_app.periodic.scheduler:Scheduler",
}

SETTINGS = "benchmarks.periodic_settings"


def run(entries: int, seconds: float, only: Sequence[str]) -> None:
    """Fill the tables, and let each contestant tick for so long."""
    with PostgreSQL() as database, Redis() as broker, tempfile.TemporaryDirectory() as folder:
        ground = Ground(database, broker, Path(folder))
        ground.run("django", "migrate", "--verbosity", "0", "--settings", SETTINGS)
        for contestant in only or SCHEDULERS:
            arguments = [SCHEDULERS[contestant], str(entries), str(seconds)]
            told = json.loads(ground.run("benchmarks.periodic", *arguments).splitlines()[-1])
            print(
                f"{contestant}: {told['statements']:,.0f} statements and {told['cpu']:.2f} s of "
                f"CPU per minute, {told['fired']:,.0f} fired; {told['start']:.1f} s to start",
                flush=True,
            )


def tick_for(scheduler_path: str, entries: int, seconds: float) -> None:
    """Tick one scheduler in this process and print what a minute costs, as JSON."""
    os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
    django.setup()
    app = import_module("tasks_app.celery").app
    import_module("tasks_app.declare").task(nothing, name="benchmarks.nothing")
    fill(entries)
    module, _, name = scheduler_path.partition(":")
    began = time.monotonic()
    scheduler = getattr(import_module(module), name)(app=app)
    scheduler.tick()
    start = time.monotonic() - began
    fired_before = fired()
    statements = Statements()
    cpu, until = time.process_time(), time.monotonic() + seconds
    with connection.execute_wrapper(statements):
        while (left := until - time.monotonic()) > 0:
            time.sleep(max(min(scheduler.tick() or 0, left), 0))
    scheduler.close()
    minute = 60 / seconds
    told = {
        "statements": statements.count * minute,
        "cpu": (time.process_time() - cpu) * minute,
        "fired": (fired() - fired_before) * minute,
        "start": start,
    }
    print(json.dumps(told))


def nothing() -> None:
    """Do nothing: what counts is the schedule."""


class Statements:
    """Counts statements of a connection."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Any, *statement: Any) -> Any:
        self.count += 1
        return execute(*statement)


def fired() -> int:
    """Return how many entries have become outcomes."""
    return int(import_module("tasks_app.models").Outcome.objects.count())


def fill(entries: int) -> None:
    """Make the entries, an equal share in each minute of the hour, as if they had just run."""
    models = import_module("django_celery_beat.models")
    timezone = import_module("django.utils.timezone")
    models.PeriodicTask.objects.all().delete()
    import_module("tasks_app.models").Timer.objects.all().delete()
    models.CrontabSchedule.objects.all().delete()
    minutes = [models.CrontabSchedule(minute=str(minute)) for minute in range(60)]
    models.CrontabSchedule.objects.bulk_create(minutes)
    rows = [
        models.PeriodicTask(
            name=f"entry {number}",
            task="benchmarks.nothing",
            crontab=minutes[number % 60],
            last_run_at=timezone.now(),
        )
        for number in range(entries)
    ]
    models.PeriodicTask.objects.bulk_create(rows, batch_size=1_000)
    models.PeriodicTasks.update_changed()


if __name__ == "__main__":
    tick_for(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
