"""
Footprint: what one task costs the database, counted and not timed.

Each contestant makes its calls and runs its tasks in one process without any other thread, as a
worker's child does: through Celery's tracer, with Celery's Django fixup installed. Statements,
round trips and new connections are counted on the wire, commits and bytes in PostgreSQL's log of
changes, of which only what data and their transactions wrote counts. Neither autovacuum nor
images of whole pages, which depend on the time between checkpoints, are part of it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from benchmarks.contestants import Ground
from benchmarks.figures import Sheet
from tests.servers import PostgreSQL, Redis, Tap

CONTESTANTS = ("footprint_with_outcomes", "footprint_with_results")

#: What is counted of each path, with its unit.
UNITS = {
    "statements": "statements/task",
    "commits": "commits/task",
    "round trips": "round trips/task",
    "connections": "connections/task",
    "WAL": "bytes/task",
}

#: Calls or runs that a count is the mean of, unless a path says otherwise.
TASKS = 100

#: Tasks of each path before the first count: they fill caches.
WARM_UP = 10

SETUP = (
    "ALTER SYSTEM SET autovacuum = off",
    "ALTER SYSTEM SET full_page_writes = off",
    "SELECT pg_reload_conf()",
    "CREATE EXTENSION pg_walinspect",
    "CREATE TABLE effect (key text)",
)

#: Tables whose rows, with those that refer to them, are removed before each count.
TABLES = ("tasks_app_outcome", "django_celery_results_taskresult", "effect")

#: Commits and bytes between two places of the log.
LOGGED = """
    SELECT count(*) FILTER (WHERE resource_manager = 'Transaction' AND record_type = 'COMMIT'),
        coalesce(sum(record_length), 0)
    FROM pg_get_wal_records_info(%s, %s)
    WHERE resource_manager NOT IN ('Standby', 'XLOG')
"""

Counts = Mapping[str, float]


@dataclass(frozen=True)
class Way:
    """
    One way of a task.

    Attributes:
        name: As the figures call it.
        act: Does it, with what was prepared.
        prepare: Makes, uncounted, what so many tasks need.
        tasks: How many tasks to count.
        without: Does all but what is to be counted; its counts are subtracted.
    """

    name: str
    act: Callable[[Any], object]
    prepare: Callable[[int], Any] = range
    tasks: int = TASKS
    without: Callable[[Any], object] | None = None


def run(sheet: Sheet, rounds: int) -> None:
    """Count each way of each contestant, on servers of their own."""
    with PostgreSQL() as database, Redis() as broker, tempfile.TemporaryDirectory() as folder:
        ground = Ground(database, broker, Path(folder))
        ground.migrate()
        execute(database, SETUP)
        for _ in range(rounds):
            for contestant in CONTESTANTS:
                ground.clear()
                empty(database)
                note(sheet, contestant, json.loads(ground.run("benchmarks.footprint", contestant)))


def empty(database: PostgreSQL) -> None:
    """Leave no row behind, so that pages and indexes grow alike in each round."""
    execute(database, [f"TRUNCATE {', '.join(TABLES)} CASCADE"])


def execute(database: PostgreSQL, statements: Sequence[str]) -> None:
    """Execute statements, each its own transaction."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def note(sheet: Sheet, contestant: str, told: Mapping[str, Counts]) -> None:
    """Add one round of one contestant to the figures."""
    name = contestant.removeprefix("footprint_")
    for way, counts in told.items():
        for what, unit in UNITS.items():
            sheet.add(f"{what}: {way}", name, counts[what], unit=unit, better="lower")


class Meter:
    """Counts what clients of a tap and their transactions do."""

    def __init__(self, tap: Tap, direct: psycopg.Connection[Any]) -> None:
        self.tap = tap
        self.direct = direct

    def count(self, way: Way) -> Counts:
        """Return what one task costs."""
        way.act(way.prepare(WARM_UP))
        whole = self.count_act(way.act, way.prepare(way.tasks))
        rest = dict.fromkeys(UNITS, 0.0)
        if way.without is not None:
            rest = self.count_act(way.without, way.prepare(way.tasks))
        return {what: (whole[what] - rest[what]) / way.tasks for what in UNITS}

    def count_act(self, act: Callable[[Any], object], prepared: Any) -> dict[str, float]:
        """Return what one act costs."""
        begin = self.place()
        self.tap.take()
        act(prepared)
        heard = self.tap.take()
        commits, logged = self.logged(begin, self.place())
        return {
            "statements": heard.statements,
            "commits": commits,
            "round trips": heard.round_trips,
            "connections": heard.connections,
            "WAL": logged,
        }

    def place(self) -> str:
        """Return where PostgreSQL's log of changes ends."""
        return str(self.ask("SELECT pg_current_wal_insert_lsn()")[0])

    def logged(self, begin: str, end: str) -> tuple[float, float]:
        """Return commits and bytes between two places of the log."""
        if begin == end:
            return 0, 0
        # What is not on disk yet cannot be read; a commit that waits for the disk takes it along.
        self.ask("SELECT pg_logical_emit_message(true, 'footprint', '')")
        commits, logged = self.ask(LOGGED, (begin, end))
        return float(commits), float(logged)

    def ask(self, sql: str, params: Sequence[str] = ()) -> tuple[Any, ...]:
        """Return the row that answers a question, past the tap."""
        row = self.direct.execute(sql, params).fetchone()
        assert row is not None
        return row


def trace(task: Any, task_id: str, *, retries: int = 0, ignore_result: bool = False) -> None:
    """Run a task as a worker's child does for a message with these headers."""
    request = {
        "id": task_id,
        "args": (),
        "kwargs": {},
        "retries": retries,
        "ignore_result": ignore_result,
        "hostname": "worker",
        "is_eager": False,
        "delivery_info": {"routing_key": "celery"},
    }
    tracer = import_module("celery.app.trace").build_tracer(task.name, task, app=task.app)
    tracer(task_id, (), {}, request)


def serve(app: Any) -> Any:
    """Return Celery's Django fixup as a worker's start installs it; it works while it is kept."""
    import_module("celery.signals").celeryd_init.send(sender="worker", instance=None, conf=app.conf)
    return import_module("celery.fixups.django").DjangoWorkerFixup(app).install()


def measure(contestant: str) -> Mapping[str, Counts]:
    """Return what each way of a contestant costs, whose only way to the database is tapped."""
    address = os.environ["BENCHMARK_DATABASE"]
    port = urlsplit(address).port
    assert port is not None
    # A retry is told of as a warning, to whoever runs this.
    logging.disable(logging.WARNING)
    with Tap(port) as tap, psycopg.connect(address, autocommit=True) as direct:
        os.environ["BENCHMARK_DATABASE"] = address.replace(f":{port}/", f":{tap.port}/")
        ways: Sequence[Way] = import_module(f"benchmarks.{contestant}").WAYS
        meter = Meter(tap, direct)
        counts = {way.name: meter.count(way) for way in ways}
        import_module("django.db").connections.close_all()
    return counts


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
