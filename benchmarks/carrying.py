"""
What one outcome costs PostgreSQL on its whole way: WAL, bytes, dead rows, vacuum, CPU.

The app's own statements make the way, in one process: `enqueue` or `enqueue_many`, the relay's
look, the run with its claim and its success, prune. Autovacuum is off for the tables; VACUUM runs
by hand and is measured. `benchmarks.capacity` reckons from these figures what a primary carries.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import django
from celery.app.task import Context
from django.core.management import call_command
from django.db import connection
from django.test.utils import override_settings

from benchmarks.figures import Sheet
from tests.servers import PostgreSQL

#: Outcomes on the way at a time: enqueued, announced and run before the next ones are.
SHIFT = 1_000

#: Vacuums on the way, as often as autovacuum comes where its scale factor is 0.2.
VACUUMS = 5

#: Outcomes that follow a checkpoint, after which each page that they touch is logged whole.
AFTER_CHECKPOINT = 500

#: The tables that each outcome leaves a row in.
TABLES = ("tasks_app_outcome", "tasks_app_attempt")

#: What puts them into partitions, by which column, and what their primary keys are then.
PARTITIONS = Path(__file__).parent.parent / "docs" / "ops" / "partitions.sql"
KEYS = ("id", "outcome_id")
PRIMARY_KEYS = ("id", "id, outcome_id")

#: Partitions of days.
DAYS = 30

#: Ticks of a CPU second.
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Costs:
    """What a leg of the way has cost the server so far."""

    outcomes: int = 0
    #: Bytes of the log's records, and of the page images in it.
    wal: float = 0
    images: float = 0
    #: CPU seconds of all processes of the server, and of this one.
    cpu: float = 0
    own: float = 0


class Way:
    """Leads outcomes along their way and notes what each leg costs the server."""

    def __init__(self, server: PostgreSQL, calls: Any) -> None:
        self.server = server
        self.charge = calls.charge
        self.calls = calls
        self.outbox: Any = import_module("tasks_app.outbox")
        self.worker: Any = import_module("tasks_app.worker")
        self.prune: Any = import_module("tasks_app.prune")
        self.batch: int = import_module("tasks_app.relay").BATCH
        self.legs: dict[str, Costs] = {}

    @contextmanager
    def leg(self, name: str, outcomes: int) -> Iterator[None]:
        """Add what the server does meanwhile to a leg's costs."""
        costs = self.legs.setdefault(name, Costs())
        start, cpu, own = log_position(), cpu_seconds(self.server), time.process_time()
        yield
        costs.own += time.process_time() - own
        costs.cpu += cpu_seconds(self.server) - cpu
        records, images = logged_since(start)
        costs.wal += records
        costs.images += images
        costs.outcomes += outcomes

    def pass_shift(self, size: int, *, in_bulk: bool, suffix: str = "") -> None:
        """Lead so many outcomes from enqueue to success."""
        orders = range(size)
        with self.leg(("enqueue_many" if in_bulk else "enqueue") + suffix, size):
            (self.calls.bulk if in_bulk else self.calls.one_by_one)(orders)
        left = size
        while left:
            batch = self._announce(suffix)
            left -= len(batch)
            with self.leg("run" + suffix, len(batch)):
                for row in batch:
                    self.worker.answer(
                        self.charge.name,
                        self.charge.options,
                        self.charge.run,
                        Context(id=str(row.pk)),
                    )

    def _announce(self, suffix: str) -> Sequence[Any]:
        costs = self.legs.setdefault("announce" + suffix, Costs())
        with self.leg("announce" + suffix, 0):
            batch = self.outbox.take_due(self.batch, [self.charge.name])
        costs.outcomes += len(batch.rows)
        return batch.rows  # type: ignore[no-any-return]  # of a module loaded by name

    def vacuum(self, outcomes: int) -> None:
        """Remove the dead rows that so many outcomes have left."""
        with self.leg("vacuum", outcomes), connection.cursor() as cursor:
            cursor.execute(f"VACUUM (ANALYZE) {', '.join(TABLES)}")

    def delete_all(self) -> None:
        """Prune what has succeeded, and vacuum what that leaves."""
        pruned = self.legs.setdefault("prune", Costs())
        with override_settings(TASKS_APP={"RETENTION": {"succeeded": 0}}), self.leg("prune", 0):
            pruned.outcomes += sum(self.prune.prune())
        with self.leg("vacuum after prune", pruned.outcomes), connection.cursor() as cursor:
            cursor.execute(f"VACUUM {', '.join(TABLES)}")


def run(sheet: Sheet, rounds: int, outcomes: int = 50_000) -> None:
    """Lead so many outcomes along their way in each round, and at last a fifth in partitions."""
    with PostgreSQL() as server, connected(server) as calls:
        for _ in range(rounds):
            execute(f"TRUNCATE {', '.join(TABLES)}")
            way = Way(server, calls)
            measure(sheet, way, outcomes)
            note_legs(sheet, way)
        way = Way(server, calls)
        pass_in_partitions(way, outcomes // VACUUMS)
        note_legs(sheet, way)


def measure(sheet: Sheet, way: Way, outcomes: int) -> None:
    """Lead outcomes along their way: enqueue, run and vacuum, a checkpoint, prune."""
    before = tuples()
    for number in range(1, outcomes // SHIFT + 1):
        way.pass_shift(SHIFT, in_bulk=number % 2 == 0)
        if number * SHIFT % (outcomes // VACUUMS) == 0:
            way.vacuum(outcomes // VACUUMS)
    after = tuples()
    for kind, total in after.items():
        note(sheet, kind, (total - before[kind]) / outcomes, "rows")
    for relation, size in sizes().items():
        note(sheet, f"size of {relation}", size / outcomes, "B")
    execute("CHECKPOINT")
    way.pass_shift(AFTER_CHECKPOINT, in_bulk=False, suffix=" after a checkpoint")
    way.delete_all()


def pass_in_partitions(way: Way, outcomes: int) -> None:
    """Put the empty tables into partitions, lead outcomes along their way, and drop their day."""
    execute(PARTITIONS.read_text())
    for table, key, primary_key in zip(TABLES, KEYS, PRIMARY_KEYS, strict=True):
        execute("CALL tasks_app_partition(%s, %s, %s, current_date + 2)", table, key, primary_key)
        for day in range(2, 2 + DAYS):
            execute("CALL tasks_app_add_day(%s, current_date + %s::int)", table, day)
    for number in range(1, outcomes // SHIFT + 1):
        way.pass_shift(SHIFT, in_bulk=number % 2 == 0, suffix=" in partitions")
    with way.leg("drop of a partition", outcomes):
        execute("CALL tasks_app_drop_partition('before', '0 s')")


def note_legs(sheet: Sheet, way: Way) -> None:
    """Note what each leg of a way has cost for each outcome."""
    for name, costs in way.legs.items():
        note(sheet, f"WAL of {name}", costs.wal / costs.outcomes, "B")
        note(sheet, f"page images of {name}", costs.images / costs.outcomes, "B")
        note(sheet, f"server CPU of {name}", costs.cpu / costs.outcomes * 1e6, "µs")
        note(sheet, f"own CPU of {name}", costs.own / costs.outcomes * 1e6, "µs")


def note(sheet: Sheet, measure: str, value: float, unit: str) -> None:
    """Note a round's value; all of them are costs of one outcome."""
    sheet.add(measure, "tasks_app", round(value, 3), unit=unit, better="lower")


@contextmanager
def connected(server: PostgreSQL) -> Iterator[Any]:
    """Give the block this project's contestant in this process, with its tables on a server."""
    os.environ.update(
        BENCHMARK_DATABASE=server.url,
        BENCHMARK_BROKER="memory://",
        BENCHMARK_STAMPS=os.devnull,
        DJANGO_SETTINGS_MODULE="benchmarks.settings",
    )
    django.setup()
    try:
        call_command("migrate", verbosity=0)
        execute("CREATE EXTENSION pg_walinspect")
        for table in TABLES:
            execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        yield import_module("benchmarks.with_outcomes")
    finally:
        connection.close()


def execute(sql: str, *params: Any) -> None:
    """Run a statement by itself, as it stands where it has no parameters."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)


def rows(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """Return what a query finds."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def log_position() -> str:
    """Return how far the write-ahead log is on the disk, after all of it was brought there."""
    # A commit that does not wait for the disk may still stand in memory; this one does wait.
    execute("SELECT pg_logical_emit_message(true, 'benchmark', '')")
    return str(rows("SELECT pg_current_wal_flush_lsn()")[0][0])


def logged_since(start: str) -> tuple[float, float]:
    """Return the bytes of records and of page images that were logged since a position."""
    sql = "SELECT sum(record_size), sum(fpi_size) FROM pg_get_wal_stats(%s, %s)"
    records, images = rows(sql, start, log_position())[0]
    return float(records), float(images)


def cpu_seconds(server: PostgreSQL) -> float:
    """Return the CPU time of a server's processes, those that have ended included."""
    first, *others = server.started.family()
    living = sum(ticks(pid, with_ended=False) for pid in others)
    return (living + ticks(first, with_ended=True)) / TICKS


def ticks(pid: int, *, with_ended: bool) -> int:
    """Return a process' ticks of CPU, with those of its children that have ended on request."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        # It has ended since it was listed: its parent has them.
        return 0
    return sum(int(field) for field in fields[11 : 15 if with_ended else 13])


def tuples() -> dict[str, float]:
    """Return what the server has counted of written rows so far."""
    execute("SELECT pg_stat_force_next_flush()")
    found = rows(
        "SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_hot_upd) FROM pg_stat_user_tables"
        " WHERE relname = ANY(%s)",
        list(TABLES),
    )
    return dict(zip(("inserts", "updates", "HOT updates"), map(float, found[0]), strict=True))


def sizes() -> dict[str, float]:
    """Return the bytes of each table, its large values included, and of each of its indexes."""
    found = rows(
        "SELECT relname, pg_table_size(oid) FROM pg_class WHERE relname = ANY(%s)"
        " UNION ALL SELECT indexrelid::regclass::text, pg_relation_size(indexrelid)"
        " FROM pg_index WHERE indrelid = ANY(%s::regclass[])",
        list(TABLES),
        list(TABLES),
    )
    return {name: float(size) for name, size in found}


def main() -> None:
    """Measure, print the medians, and keep the figures on request."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.carrying", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--outcomes", type=int, default=50_000, help="per round (%(default)s)")
    parser.add_argument("--figures", type=Path, help="write them into this file, as JSON")
    given = parser.parse_args()
    sheet = Sheet()
    run(sheet, given.rounds, given.outcomes)
    for figure in sheet:
        print(f"{figure.measure}: {figure.median:,.1f} {figure.unit}")
    if given.figures:
        sheet.write(given.figures)


if __name__ == "__main__":
    main()
