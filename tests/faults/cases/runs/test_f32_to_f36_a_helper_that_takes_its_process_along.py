"""Helpers that run out of memory, end their process, or raise what cannot be shown."""

from __future__ import annotations

import pytest

from tests.faults import tasks as faults
from tests.faults.cases.runs.damage import RESCUED, kill
from tests.testapp import tasks


def test_f32_the_third_crash_is_the_last(case, trapped):
    """An outcome that kills whoever runs it fails after three crashes, with the reason."""
    outcome = case.settled(trapped.using(tasks.die).enqueue(case.key, 100))
    assert (outcome.state, outcome.reason, outcome.crashes) == ("failed", "worker_lost", 3)
    assert case.ends(outcome) == ["lost"] * 3
    assert len(case.left()) == 3
    assert case.effects() == []


def test_f33_a_process_without_memory_ends_in_a_failure(case, trapped):
    """It can tell that itself, or dies of it and is lost three times; the worker goes on."""
    outcome = case.settled(trapped.using(faults.run_out_of_memory).enqueue(case.key))
    # It has to live with what it was left, so let the worker start another one.
    kill(case.left()[-1]["pid"])
    assert outcome.state == "failed"
    assert case.ends(outcome)[:-1] == ["lost"] * (outcome.attempts.count() - 1)
    assert outcome.crashes == case.ends(outcome).count("lost")
    assert case.effects() == []


@pytest.mark.parametrize(
    "kind", ["memory", "system_exit", "keyboard_interrupt", "unprintable", "unpicklable", "nul"]
)
def test_f34_to_f36_whatever_a_helper_raises_is_its_failure_alone(kind, case, trapped):
    """MemoryError, SystemExit, KeyboardInterrupt, and errors without text or pickle."""
    outcome = case.settled(trapped.using(tasks.fail_with).enqueue(case.key, kind))
    assert (outcome.state, outcome.crashes) == ("failed", 0)
    assert outcome.error
    assert case.effects() == []


def test_f35_a_process_that_leaves_is_rescued(case, trapped):
    """`os._exit` runs no handler and tells nobody: it is a crash, and the next run succeeds."""
    with case.recovers(within=RESCUED):
        outcome = case.settled(trapped.using(faults.leave_the_process).enqueue(case.key))
    assert (outcome.state, outcome.crashes) == ("succeeded", 1)
    assert case.effects() == [""]
