"""Transactions that the database ends: deadlocks, serialization failures, waits for locks."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest
from django.db import connection, transaction

from tests.faults import tasks as faults
from tests.installation import PATIENCE
from tests.testapp.models import Account

#: Seconds for which another process holds SQLite's write lock; Django waits five.
HELD = 4

#: Isolation, whether both write before they meet, whether both write the same row afterwards.
CONFLICTS = {
    "a deadlock": ("", True, False),
    "a write skew": ("SERIALIZABLE", False, False),
    "two writers of a row": ("REPEATABLE READ", False, True),
    "two readers that write": ("", False, False),
}

#: Which of them the database ends by an error in one of the two.
ENDED = {
    "postgresql": {"a deadlock", "a write skew", "two writers of a row"},
    "mysql": {"a deadlock", "a write skew"},
    "sqlite": {"two readers that write"},
}


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_f47_what_a_conflict_has_undone_is_done_again(conflict, case, patient):
    """The one whose transaction was ended runs again within its attempt; both take effect."""
    if conflict not in ENDED[connection.vendor]:
        pytest.skip(f"{connection.vendor} lets them both pass, or lets only one in")
    isolation, writes_first, same_row = CONFLICTS[conflict]
    one, other = f"{case.key}-1", f"{case.key}-2"
    Account.objects.bulk_create([Account(name=one), Account(name=other)])
    how = {"isolation": isolation, "writes_first": writes_first}
    task = patient.using(faults.cross)
    outcomes = [
        task.enqueue(case.key, one, other, **how),
        task.enqueue(case.key, other, other if same_row else one, **how),
    ]
    for outcome in outcomes:
        case.settled(outcome)
        assert (outcome.state, outcome.attempt, outcome.crashes) == ("succeeded", 1, 0)
    assert sorted(case.effects()) == [one, other]
    assert len(case.left()) > 2
    balances = [Account.objects.get(name=name).balance for name in (one, other)]
    assert balances == ([2, 2] if writes_first else [0, 2] if same_row else [1, 1])


def test_f48_a_wait_that_is_too_long_undoes_the_whole_transaction(case, patient):
    """MariaDB undoes only the statement that waited; the helper's other writes go too."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no locks of rows")
    Account.objects.create(name=case.key)
    outcome = patient.using(faults.deposit_impatiently, run_after=0.5).enqueue(case.key)
    with transaction.atomic():
        Account.objects.select_for_update().get(name=case.key)
        case.entered(times=3)
    case.settled(outcome)
    assert (outcome.state, outcome.attempt, outcome.crashes) == ("succeeded", 1, 0)
    assert Account.objects.get(name=case.key).balance == 1
    assert case.effects() == [""]


def test_f49_a_locked_sqlite_is_waited_for(case, patient):
    """Another process that writes for some seconds costs those seconds and nothing else."""
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite has one write lock for all")
    outcome = patient.using(faults.record_late).enqueue(case.key)
    case.entered()
    path = connection.settings_dict["NAME"]
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        case.open_gate()
        time.sleep(HELD)  # the fault itself
        writer.execute("ROLLBACK")
    with case.recovers(within=PATIENCE):
        case.settled(outcome)
    assert (outcome.state, outcome.attempt, outcome.crashes) == ("succeeded", 1, 0)
    assert case.effects() == [""]
    assert f"{outcome.pk} runs again" not in patient.process.output
