"""A cancellation meets a claim, an end, a retry and a rescue: one of them wins, and it shows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from django.db import connections, transaction

from tasks_app import rescue
from tests import by_hand
from tests.faults import tasks as faults
from tests.faults.cases.runs.damage import go_on
from tests.installation import PATIENCE
from tests.testapp import tasks


@contextmanager
def cancelled_meanwhile(outcome):
    """Cancel an outcome on another connection during the block; yields the answer to come."""

    def cancel():
        try:
            return outcome.cancel(reason="not wanted")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(cancel)


def explained(outcome, effects):
    """Tell whether an outcome's state is what has come of its effects."""
    return effects == {"succeeded": [""], "cancelled": []}[outcome.state]


@pytest.mark.parametrize("place", ["claim.before", "claim.after", "run.after_helper"])
def test_f62_a_cancellation_before_the_end_is_written(place, case, trapped):
    """Before the claim it is final; after it, the run is stopped or is over before it hears."""
    trapped.arm(place)
    outcome = trapped.using(tasks.record).enqueue(case.key)
    held = trapped.caught(place)
    with cancelled_meanwhile(outcome) as answer:
        if place != "run.after_helper":
            assert answer.result(PATIENCE) is True
        go_on(held)
        assert answer.result(PATIENCE) is True or place == "run.after_helper"
    case.settled(outcome)
    assert explained(outcome, case.effects())
    assert outcome.crashes == 0
    assert outcome.state == "cancelled" or place != "claim.before"
    assert trapped.works()
    outcome.refresh()
    assert explained(outcome, case.effects())


def test_f62_a_cancellation_after_the_end_is_written(case, trapped):
    """It waits for the commit, finds a success, and says so."""
    trapped.arm("success.before_commit")
    outcome = trapped.using(tasks.record).enqueue(case.key)
    held = trapped.caught("success.before_commit")
    with cancelled_meanwhile(outcome) as answer:
        go_on(held)
        assert answer.result(PATIENCE) is False
    assert case.settled(outcome).state == "succeeded"
    assert outcome.cancel_requested_at is None
    assert case.effects() == [""]


def test_f62_a_cancellation_while_a_retry_is_written(case, trapped):
    """It waits for the commit, finds the outcome pending, and ends it: no other attempt."""
    trapped.arm("failure.before_commit")
    outcome = trapped.using(faults.fail_late).enqueue(case.key)
    held = trapped.caught("failure.before_commit")
    with cancelled_meanwhile(outcome) as answer:
        go_on(held)
        assert answer.result(PATIENCE) is True
    assert case.settled(outcome).state == "cancelled"
    assert outcome.cancel_reason == "not wanted"
    case.open_gate()
    assert trapped.works()
    assert (len(case.left()), case.effects()) == (1, [])


def test_f62_a_cancellation_of_a_run_that_is_lost(case, trapped):
    """Asked for before the rescue, it is the end that the rescuer writes."""
    trapped.arm("claim.after")
    outcome = trapped.using(tasks.record).enqueue(case.key)
    held = trapped.caught("claim.after")
    assert outcome.cancel(reason="not wanted") is True
    case.settled(outcome)
    assert (outcome.state, case.ends(outcome)) == ("cancelled", ["lost"])
    go_on(held)
    assert trapped.works()
    outcome.refresh()
    assert (outcome.state, case.effects()) == ("cancelled", [])


def test_f62_a_cancellation_while_a_rescue_is_written(case, trapped):
    """It waits for the commit, finds the outcome pending, and ends it."""
    trapped.arm("claim.after")
    outcome = trapped.using(tasks.record).enqueue(case.key)
    held = trapped.caught("claim.after")
    # Its row is locked from the end of its lease on, so that no worker's rescuer is faster.
    with ExitStack() as after, transaction.atomic():
        by_hand.let_lease_run_out(outcome)
        assert rescue.run_once()
        answer = after.enter_context(cancelled_meanwhile(outcome))
    assert answer.result(PATIENCE) is True
    case.settled(outcome)
    go_on(held)
    assert trapped.works()
    outcome.refresh()
    assert (outcome.state, case.ends(outcome)) == ("cancelled", ["lost"])
    assert case.effects() == []
