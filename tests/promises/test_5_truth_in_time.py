"""
Promise 5: what a row says is true soon, whatever has become of its worker.

Scenarios that show the same with killed processes: `test_crashes`.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connections

from tasks_app import outbox, outcomes, rescue
from tasks_app.conf import SETTINGS, conf
from tasks_app.exceptions import LeaseLost
from tasks_app.leases import Failure, Lease
from tasks_app.models import Outcome
from tasks_app.options import declared
from tasks_app.relay import Relay
from tests import by_hand
from tests.integration.command_line import ago, claimed, rewritten
from tests.project import app
from tests.testapp.tasks import add, record
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds that anything may take on a busy machine.
PATIENCE = 30

SOON = timedelta(0)
SECOND = timedelta(seconds=1)
LOST = Failure(error="lost")


@contextmanager
def running_relay():
    """A relay in a thread of its own, as every worker has one."""
    relay = Relay(app)

    def run():
        relay.run()
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        relay.stop()
        thread.join(PATIENCE)


def in_state(outcome, *states):
    """Wait until an outcome is in one of the states."""

    def look():
        outcome.refresh()
        return outcome.state in states

    wait_until(look, PATIENCE, lambda: f"{outcome} {' or '.join(states)}; it is {outcome!r}")
    return outcome


def test_a_running_relay_finds_the_orphans():
    """Nobody has to call the rescuer: each worker's relay does."""
    outcome = claimed(add.enqueue(1, 2))
    by_hand.let_lease_run_out(outcome)
    with running_relay():
        in_state(outcome, "pending")
    assert (outcome.crashes, outcome.attempt) == (1, 1)


def test_the_default_finds_a_dead_worker_within_a_minute():
    """Lease and rescue interval together are at most 60 s as they come."""
    total = SETTINGS["LEASE"].default + SETTINGS["RESCUE_INTERVAL"].default
    assert total <= 60


def test_two_seconds_are_enough(settings):
    """A lease and an interval of one second each are accepted, and the claim holds no longer."""
    settings.TASKS_APP = {"LEASE": 1, "RESCUE_INTERVAL": 1}
    assert (conf.LEASE, conf.RESCUE_INTERVAL) == (SECOND, SECOND)
    outcome = claimed(add.enqueue(1, 2))
    assert outcome.lease_until - outcome.claimed_at == SECOND
    wait_until(rescue.run_once, PATIENCE, "the end of a lease of one second")


def test_a_living_worker_keeps_its_run(key, settings):
    """A helper that takes longer than its lease is not taken for lost."""
    settings.TASKS_APP = {"LEASE": 3}

    def outlast_the_lease(key, note=""):
        wait_until(lambda: by_hand.elsewhere(was_renewed), PATIENCE, "a renewal")
        assert by_hand.elsewhere(rescue.run_once) == 0

    def was_renewed():
        return Outcome.objects.get(pk=outcome.pk).lease_until > first.lease_until

    outcome = record.enqueue(key)
    first = claimed(outcome)
    by_hand.run(first, outlast_the_lease)
    outcome.refresh()
    assert (outcome.state, outcome.crashes) == ("succeeded", 0)


def test_a_run_that_is_renewed_meanwhile_is_left_alone():
    """A rescuer whose look is stale takes nothing from a worker that is alive."""
    outcome = claimed(add.enqueue(1, 2))
    by_hand.let_lease_run_out(outcome)
    stale = Outcome.objects.orphaned().get()
    assert outcomes.renew(Lease.of(outcome))
    with pytest.raises(LeaseLost):
        outcomes.rescue(stale, SOON, LOST)
    outcome.refresh()
    assert outcome.state == "running"


def test_what_loses_its_worker_three_times_fails():
    """An outcome that kills whoever runs it is not tried for ever."""
    outcome = add.enqueue(1, 2)
    states = []
    for _ in range(3):
        by_hand.let_lease_run_out(claimed(outcome))
        assert rescue.run_once() == 1
        outcome.refresh()
        states.append(outcome.state)
        outcomes.run_now(outcome.pk)
    assert states == ["pending", "pending", "failed"]
    assert (outcome.reason, outcome.crashes) == ("worker_lost", 3)


def unknown(**values):
    """Make a due outcome of a task that nobody knows, announced often enough."""
    given = {"task_name": "nobody.knows", "announced": 9, **values}
    return rewritten(add.enqueue(1, 2), **given)


def test_an_unknown_task_waits_for_a_worker_that_knows_it():
    """A deploy that brings the workers later than the callers loses nothing."""
    outcome = unknown(run_at=ago(hours=23))
    assert outbox.take_due(10, declared.keys()).rows == [outcome]
    assert Outcome.objects.get().state == "pending"


def test_an_unknown_task_fails_after_a_day():
    """What nobody will ever run does not wait for ever."""
    outcome = unknown(run_at=ago(hours=25))
    assert outbox.take_due(10, declared.keys()).given_up == [outcome]
    outcome.refresh()
    assert (outcome.state, outcome.reason) == ("failed", "unregistered")
