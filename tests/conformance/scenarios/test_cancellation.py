"""Cancellation: what waits never runs, what runs is told and then stopped."""

from __future__ import annotations

import pytest

from tasks_app.exceptions import TaskCancelled
from tests import trail
from tests.installation import PATIENCE, in_state
from tests.testapp import tasks

pytestmark = pytest.mark.usefixtures("worker")


def test_a_cancelled_pending_task_never_runs(key, effects, installation):
    """Cancelling what waits is final at once, also when a message for it is under way."""
    outcome = tasks.record.using(queue=key).enqueue(key, "cancelled")
    outcome.cancel(reason="not wanted")
    assert in_state(outcome, "cancelled").cancel_reason == "not wanted"
    witness = tasks.record.using(queue=key).enqueue(key, "witness")
    with installation.start_worker(f"cancel-{key}", queues=[key], pool="solo"):
        witness.get(timeout=PATIENCE)
    assert effects() == ["witness"]
    with pytest.raises(TaskCancelled):
        outcome.get(timeout=PATIENCE)


def test_a_running_helper_sees_its_cancellation(key):
    """A helper that looks stops by itself, in its first attempt."""
    outcome = in_state(tasks.watch_for_cancel.enqueue(key), "running")
    outcome.cancel()
    in_state(outcome, "cancelled")
    assert len(trail.left(key)) == 1


def test_a_helper_that_does_not_look_is_stopped_after_the_grace(key, effects):
    """Cancellation ends in any case, and the worker goes on."""
    outcome = in_state(tasks.record_late.enqueue(key), "running")
    outcome.cancel()
    in_state(outcome, "cancelled")
    trail.open_gate(key)
    assert effects() == []
    assert tasks.add.enqueue(1, 2).get(timeout=PATIENCE) == 3
