"""
Promise 7: what waits never runs, what runs is told and then stopped, restarts or not.

Scenarios that show the same with workers: `test_cancellation`.
"""

from __future__ import annotations

import itertools
import time

import pytest
from celery.exceptions import Ignore

from tasks_app import current, outcomes, rescue
from tasks_app.leases import Lease
from tests import by_hand
from tests.integration.command_line import ago, claimed, rewritten
from tests.testapp.models import Effect
from tests.testapp.tasks import add, record, succeed_at
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds that anything may take on a busy machine.
PATIENCE = 30


def state_of(outcome):
    """Return the present state of an outcome."""
    outcome.refresh()
    return outcome.state


def test_a_cancelled_outcome_that_waits_never_runs(key, effects):
    """Its cancellation is final at once; a message under way finds nothing to do."""
    outcome = record.enqueue(key)
    assert outcome.cancel(reason="not wanted") is True
    with pytest.raises(Ignore):
        by_hand.answer(outcome)
    assert (state_of(outcome), outcome.cancel_reason) == ("cancelled", "not wanted")
    assert effects() == []


def test_what_is_to_be_cancelled_is_not_claimed():
    """Even a row that is pending all the same does not start once its end was asked for."""
    outcome = rewritten(add.enqueue(1, 2), cancel_requested_at=ago(seconds=1))
    assert outcomes.claim(outcome.pk, frozenset({outcome.task_name}), "worker") is None


def test_a_running_helper_is_told(key, effects):
    """`current.cancelled` turns true while the helper runs, and it may stop by itself."""

    def stop_when_asked(key, note=""):
        assert current.cancelled is False
        by_hand.elsewhere(outcome.cancel)
        wait_until(lambda: current.cancelled, PATIENCE, "current.cancelled")
        Effect.objects.create(key=key, note="rolled back")
        current.raise_if_cancelled()

    outcome = record.enqueue(key)
    with pytest.raises(Ignore):
        by_hand.run(claimed(outcome), stop_when_asked)
    assert (state_of(outcome), effects()) == ("cancelled", [])


def test_a_helper_that_does_not_look_is_stopped_after_the_grace(key, settings, effects):
    """A helper that goes on is interrupted, and what it wrote is gone."""
    settings.TASKS_APP = {"CANCEL_GRACE": 0.5}

    def go_on(key, note=""):
        by_hand.elsewhere(outcome.cancel)
        deadline = time.monotonic() + PATIENCE
        turns = itertools.takewhile(lambda _: time.monotonic() < deadline, itertools.count())
        assert sum(1 for _ in turns)

    outcome = record.enqueue(key)
    with pytest.raises(Ignore):
        by_hand.run(claimed(outcome), go_on)
    assert (state_of(outcome), effects()) == ("cancelled", [])


def test_a_request_outlives_the_worker_that_should_have_heard_it():
    """A worker that dies takes the run with it, not the request."""
    outcome = claimed(add.enqueue(1, 2))
    assert outcome.cancel() is True
    by_hand.let_lease_run_out(outcome)
    assert rescue.run_once() == 1
    assert state_of(outcome) == "cancelled"


def test_a_request_is_the_last_word_on_what_crashed_too_often():
    """The last crash of a cancelled outcome is its cancellation, not a failure."""
    outcome = rewritten(claimed(add.enqueue(1, 2)), crashes=2)
    outcome.cancel()
    by_hand.let_lease_run_out(outcome)
    assert rescue.run_once() == 1
    assert state_of(outcome) == "cancelled"


def test_a_cancelled_run_that_fails_is_not_tried_again(key):
    """A failure after the request ends the outcome instead of starting its next attempt."""

    def be_cancelled_and_fail(key, attempt):
        by_hand.elsewhere(outcome.cancel)
        raise ValueError("after the request")

    outcome = succeed_at.enqueue(key, 1)
    with pytest.raises(Ignore):
        by_hand.run(claimed(outcome), be_cancelled_and_fail)
    assert state_of(outcome) == "cancelled"


def test_a_run_that_is_given_back_after_the_request_is_cancelled():
    """A worker that stops does not hand a cancelled run to the next one."""
    outcome = claimed(add.enqueue(1, 2))
    outcome.cancel()
    assert outcomes.release(Lease.of(outcome)) == "cancelled"
    assert state_of(outcome) == "cancelled"
