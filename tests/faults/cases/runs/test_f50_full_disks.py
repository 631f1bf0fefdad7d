"""No room: on the database's disk, on the embedded broker's disk, in a broker's memory."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pytest
from django.db import OperationalError, connection

from tasks_app.filesystem import DEFAULT_FOLDER
from tasks_app.models import Outcome
from tests.faults import tasks as faults
from tests.faults.cases.runs.damage import RESCUED, TIMES, full, small_disk
from tests.installation import PATIENCE
from tests.processes import Process, launch
from tests.servers import RabbitMQ, Redis
from tests.servers.session import chosen_broker, chosen_database, files
from tests.testapp.models import Effect
from tests.waiting import wait_until

#: Seconds after the end of a shortage within which what was kept back is delivered.
SOON = 15


@dataclass
class Small:
    """An installation of its own: database and embedded broker, each on a small disk."""

    folder: Path
    broker: Path
    environment: dict[str, str]
    worker: Process | None = None

    def enqueue(self, call: str) -> Process:
        """Enqueue in a process of its own and return it when it has ended."""
        code = f"from tests.testapp import tasks; tasks.{call}"
        command = ["django", "shell", "--no-imports", "-c", code]
        process = launch(files(), f"enqueue-{token_hex(4)}", command, self.environment)
        process.process.wait(PATIENCE)
        return process

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        """Return what a statement finds in the database."""
        with closing(sqlite3.connect(self.folder / "small.sqlite3")) as database:
            return database.execute(statement).fetchall()

    def states(self) -> list[str]:
        """Return the states of all outcomes, the oldest first."""
        return [str(row[0]) for row in self.rows("SELECT state FROM tasks_app_outcome ORDER BY id")]


@pytest.fixture
def small(installation):
    """A worker whose database and broker are on disks that are soon full."""
    if (chosen_database(), chosen_broker()) != ("sqlite", "embedded"):
        pytest.skip("the database and the broker are servers")
    home = files() / f"small-{token_hex(4)}"
    with (
        small_disk(home, "8m") as folder,
        small_disk(folder / DEFAULT_FOLDER, "256k") as broker,
    ):
        path = folder / "small.sqlite3"
        with connection.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(path)])
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            for table in ("tasks_app_outcome", "tasks_app_attempt", "testapp_effect"):
                database.execute(f"DELETE FROM {table}")
            database.execute("VACUUM")
        made = Small(folder, broker, {"TASKS_TEST_DATABASE_URL": f"sqlite://{path}"})
        with installation.start_worker(
            home.name, settings=TIMES, environment=made.environment
        ) as made.worker:
            yield made


def test_f50_a_full_disk_below_sqlite(case, small):
    """A caller is told; a run that cannot be written ends when there is room again, once."""
    assert small.enqueue(f"record_late.enqueue({case.key!r})").process.returncode == 0
    case.entered()
    with full(small.folder):
        refused = small.enqueue("add.enqueue(1, 2)")
        assert refused.process.returncode
        assert "database or disk is full" in refused.output
        case.open_gate()
        small.worker.wait_for_output("waits for the database")
    with case.recovers(within=SOON):
        wait_until(lambda: small.states() == ["succeeded"], PATIENCE, small.worker.tail)
    assert len(small.rows("SELECT id FROM testapp_effect")) == 1
    assert small.enqueue("add.enqueue(1, 2)").process.returncode == 0
    wait_until(lambda: small.states() == ["succeeded"] * 2, PATIENCE, small.worker.tail)


def test_f50_a_full_disk_below_the_embedded_broker(case, small):
    """The row waits, no half a message is left to stumble over, and the worker goes on."""
    with full(small.broker):
        assert small.enqueue(f"record.enqueue({case.key!r})").process.returncode == 0
        small.worker.wait_for_output("The relay lost its broker")
        assert small.states() == ["pending"]
        assert [path for path in small.broker.rglob("*.msg") if not path.stat().st_size] == []
    with case.recovers(within=SOON):
        wait_until(lambda: small.states() == ["succeeded"], PATIENCE, small.worker.tail)
    assert len(small.rows("SELECT id FROM testapp_effect")) == 1
    assert small.worker.running


@contextmanager
def without_memory(server):
    """Let a Redis take no more."""
    with server.client() as client:
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


@contextmanager
def without_disk(server):
    """Let a RabbitMQ believe that its disk is nearly full."""
    server.limit_disk("1000000GB")
    try:
        yield
    finally:
        server.limit_disk("1MB")


def test_f50_a_broker_without_room(case, patient, broker_server):
    """Callers do not notice; the relay keeps the rows and delivers them when there is room."""
    shortage = {Redis: without_memory, RabbitMQ: without_disk}[type(broker_server)]
    with shortage(broker_server):
        outcome = patient.using(faults.record_patiently).enqueue(case.key)
        wait_until(
            lambda: "The relay lost its broker" in patient.process.output, PATIENCE, patient.tail
        )
        outcome.refresh()
        assert outcome.state == "pending"
    with case.recovers(within=SOON):
        case.settled(outcome)
    assert (outcome.state, outcome.attempt) == ("succeeded", 1)
    assert case.effects() == [""]


@contextmanager
def tables_on(folder, *models):
    """Keep tables of PostgreSQL on a disk of their own."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
        for model in models:
            cursor.execute(f"ALTER TABLE {model._meta.db_table} SET TABLESPACE small")
        try:
            yield
        finally:
            for model in models:
                cursor.execute(f"ALTER TABLE {model._meta.db_table} SET TABLESPACE pg_default")
            cursor.execute("DROP TABLESPACE small")


def write_until_full(write):
    """Write ever less at a time until the database has no room for anything."""
    for size in (50_000, 5_000, 500, 1):
        with pytest.raises(OperationalError, match="No space left"):
            write_for_ever(write, size)


def write_for_ever(write, size):
    """Write texts of a size, which no compression makes smaller, as long as that succeeds."""
    while True:
        write(token_hex(size // 2 or 1))


@pytest.fixture
def disk(database_server):
    """A small disk that PostgreSQL may write to."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL can move a table to another disk while it is in use")
    with small_disk(Path("/tmp") / f"small-{token_hex(4)}", "3m", database_server.run_as()) as made:
        yield made


def test_f50_a_full_disk_below_what_helpers_write(case, patient, disk):
    """A helper's failed write is a failed attempt like others, and a later one succeeds."""
    with tables_on(disk, Effect):
        write_until_full(lambda note: Effect.objects.create(key="ballast", note=note))
        outcome = patient.using(faults.record_patiently).enqueue(case.key)
        case.entered(times=2)
        outcome.refresh()
        assert "No space left" in outcome.error
    with case.recovers(within=SOON):
        case.settled(outcome)
    Effect.objects.filter(key="ballast").delete()
    assert (outcome.state, outcome.crashes) == ("succeeded", 0)
    assert outcome.attempt > 1
    assert case.effects() == [""]


def test_f50_a_full_disk_below_the_outcomes(case, patient, disk):
    """A caller is told; the run whose end had no room is finished when there is room again."""
    ballast = faults.receive.using(queue="ballast", run_after=3600)
    outcome = patient.using(faults.record_late_patiently).enqueue(case.key)
    case.entered()
    with tables_on(disk, Outcome):
        write_until_full(lambda value: ballast.enqueue("ballast", value))
        case.open_gate()
        with contextlib.suppress(TimeoutError):
            # What the last refusals left free may do for it.
            wait_until(case.effects, 1, "an end that found room")
    with case.recovers(within=RESCUED):
        case.settled(outcome)
    Outcome.objects.filter(queue="ballast").delete()
    assert outcome.state == "succeeded"
    assert case.effects() == [""]
