"""The database is stopped, restarted or frozen, in a run, at its end, and while nobody runs."""

from __future__ import annotations

import time

import pytest
from django.db import connection

from tests.faults import tasks as faults
from tests.faults.cases.runs.damage import RESCUED, TIMES, Trapped, back
from tests.installation import PATIENCE
from tests.testapp import tasks
from tests.waiting import wait_until

#: Seconds after a database's return within which a worker works again.
AT_ONCE = 5

#: Whether PostgreSQL has written its whole log to the disk.
FLUSHED = "SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()"


def one(statement):
    """Return the one value that a statement returns."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def wait_for_the_disk():
    """Return when a power cut would lose nothing: a claim's commit does not wait for the disk."""
    if connection.vendor == "postgresql":
        wait_until(lambda: one(FLUSHED), PATIENCE, "the log on the disk")


def test_f42_a_power_cut_of_the_database_in_the_body(case, trapped, database_server):
    """What the helper had written is gone, so it runs again: one effect, one crash."""
    outcome = trapped.using(faults.record_late).enqueue(case.key)
    case.entered()
    wait_for_the_disk()
    database_server.kill()
    back(database_server)
    with case.recovers(within=RESCUED):
        case.open_gate()
        case.settled(outcome)
    assert (outcome.state, outcome.crashes) == ("succeeded", 1)
    assert case.effects() == [""]


@pytest.fixture
def slow_log(database_server):
    """Leave commits that do not wait for the disk out of it for ten seconds."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL's claims commit before they are on the disk")
    for statement in ("ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()"):
        one_way(statement)
    yield
    for statement in ("ALTER SYSTEM RESET wal_writer_delay", "SELECT pg_reload_conf()"):
        one_way(statement)


def one_way(statement):
    """Run a statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.usefixtures("slow_log")
def test_f42_a_claim_that_a_power_cut_forgot_is_made_again(case, patient, database_server):
    """The first run goes on with a fence that its successor has too; still one of them counts."""
    outcome = patient.using(faults.record_late).enqueue(case.key)
    case.entered()
    database_server.kill()
    back(database_server)
    # Its announcement may have been forgotten too: then it is running again by now.
    outcome.run_now()
    case.entered(times=2)
    outcome.refresh()
    assert (outcome.state, outcome.fence, outcome.crashes) == ("running", 1, 0)
    with case.recovers(within=RESCUED):
        case.open_gate()
        case.settled(outcome)
    assert outcome.state == "succeeded"
    assert case.effects() == [""]


def test_f43_a_run_that_ends_while_the_database_is_away_is_not_repeated(
    case, patient, database_server
):
    """A worker tries to write the end for as long as its lease lasts."""
    outcome = patient.using(faults.wait_outside).enqueue(case.key)
    case.entered()
    wait_for_the_disk()
    database_server.kill()
    case.open_gate()
    patient.process.wait_for_output(f"{outcome.pk} waits for the database")
    back(database_server)
    with case.recovers(within=RESCUED):
        case.settled(outcome)
    assert (outcome.state, outcome.attempt, outcome.crashes) == ("succeeded", 1, 0)
    assert len(case.left()) == 1


def test_f43_a_run_whose_end_nobody_could_write_is_repeated(case, installation, database_server):
    """After its lease a worker gives up, and the row does not stay running for ever."""
    hasty = Trapped(installation, {**TIMES, "LEASE": 1})
    with hasty.start() as hasty.process:
        outcome = hasty.using(faults.wait_outside).enqueue(case.key)
        case.entered()
        wait_for_the_disk()
        database_server.kill()
        case.open_gate()
        hasty.process.wait_for_output(f"{outcome.pk} ended and Celery was not told")
        back(database_server)
        with case.recovers(within=RESCUED):
            case.settled(outcome)
    assert (outcome.state, outcome.crashes) == ("succeeded", 1)
    assert len(case.left()) == 2


def test_f44_an_idle_worker_survives_the_restart_of_its_database(case, trapped, database_server):
    """Connections from before the restart are replaced in every process of the worker."""
    assert trapped.works()
    database_server.restart()
    back(database_server)
    with case.recovers(within=AT_ONCE):
        outcomes = [trapped.using(tasks.record).enqueue(case.key) for _ in range(6)]
        for outcome in outcomes:
            case.settled(outcome)
    assert {outcome.state for outcome in outcomes} == {"succeeded"}
    assert len(case.effects()) == 6


def test_f44_a_dead_child_is_told_of_after_a_restart_of_the_database(
    case, patient, database_server
):
    """The worker's main process tells of it at once, though it had a connection from before."""
    assert case.settled(patient.using(tasks.die).enqueue(f"{case.key}-1", 1)).crashes == 1
    database_server.restart()
    back(database_server)
    assert patient.works()
    with case.recovers(within=RESCUED):
        outcome = case.settled(patient.using(tasks.die).enqueue(case.key, 1))
    assert (outcome.state, outcome.crashes) == ("succeeded", 1)
    assert case.effects() == [""]


def test_f45_a_frozen_database_ends_no_run(case, trapped, database_server):
    """Longer than a lease, nobody can renew and nobody can rescue: no state is made up."""
    outcome = trapped.using(faults.record_late).enqueue(case.key)
    case.entered()
    database_server.pause()
    case.open_gate()
    time.sleep(2 * TIMES["LEASE"])  # the fault itself
    database_server.resume()
    with case.recovers(within=RESCUED):
        case.settled(outcome)
    assert outcome.state == "succeeded"
    assert set(case.ends(outcome)) <= {"lost", "succeeded"}
    assert case.effects() == [""]
