"""
Promise 3: an atomic helper's writes and its `succeeded` commit together, and only once.

Scenarios that show the same with workers: `test_crashes` (killed children and workers),
`test_broker` (doubled messages) and `test_enqueue` (children of a helper that fails).
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery.exceptions import Ignore
from django.db import transaction

from tasks_app import outcomes, rescue
from tasks_app.exceptions import LeaseLost
from tasks_app.leases import Lease
from tasks_app.models import Outcome
from tasks_app.states import Reason
from tests import by_hand
from tests.integration.command_line import claimed
from tests.testapp.models import Effect
from tests.testapp.tasks import add, record

pytestmark = pytest.mark.django_db(transaction=True)

SOON = timedelta(0)


def rescued_and_due(outcome):
    """Take a run from its worker, as if that had been silent for longer than its lease."""
    by_hand.let_lease_run_out(outcome)
    assert rescue.run_once() == 1
    assert outcomes.run_now(outcome.pk)


def test_a_run_that_lost_its_lease_leaves_nothing(key, effects):
    """A zombie that wakes up after its row was given back cannot commit what it does."""

    def zombie(key, note=""):
        by_hand.elsewhere(lambda: rescued_and_due(outcome))
        Effect.objects.create(key=key, note="zombie")
        add.enqueue(1, 2)

    outcome = record.enqueue(key)
    with pytest.raises(Ignore):
        by_hand.run(claimed(outcome), zombie)
    outcome.refresh()
    assert (outcome.state, effects()) == ("pending", [])
    assert not Outcome.objects.exclude(pk=outcome.pk).exists()


@pytest.mark.parametrize("overtake", [lambda outcome: None, claimed])
def test_a_run_that_wrote_nothing_cannot_end_for_another(overtake):
    """A zombie that has not spoken to the database is refused as one that has."""
    hooks: list[str] = []

    def zombie(left, right):
        by_hand.elsewhere(lambda: (rescued_and_due(outcome), overtake(outcome)))
        transaction.on_commit(lambda: hooks.append("ran"))

    outcome = add.enqueue(1, 2)
    with pytest.raises(Ignore):
        by_hand.run(claimed(outcome), zombie)
    outcome.refresh()
    assert outcome.state in {"pending", "running"}
    assert (outcome.finished_at, hooks) == (None, [])


def test_what_is_to_follow_a_commit_follows_that_of_a_run_that_wrote_nothing():
    """A hook that a helper leaves finds the outcome succeeded, also on another connection."""
    seen: list[str] = []

    def hook():
        state = by_hand.elsewhere(lambda: Outcome.objects.get(pk=outcome.pk).state)
        seen.append(state)

    def helper(left, right):
        transaction.on_commit(hook)
        return left + right

    outcome = add.enqueue(1, 2)
    assert by_hand.run(claimed(outcome), helper) == 3
    assert seen == ["succeeded"]
    assert transaction.get_autocommit()


def test_a_run_that_was_overtaken_leaves_nothing(key, effects):
    """A zombie that wakes up while its successor runs is not taken for it."""

    def zombie(key, note=""):
        by_hand.elsewhere(lambda: (rescued_and_due(outcome), claimed(outcome)))
        Effect.objects.create(key=key, note="zombie")

    outcome = record.enqueue(key)
    with pytest.raises(Ignore):
        by_hand.run(claimed(outcome), zombie)
    outcome.refresh()
    assert (outcome.state, outcome.attempt, effects()) == ("running", 2, [])
    by_hand.run(outcome)
    outcome.refresh()
    assert (outcome.state, effects()) == ("succeeded", [""])


def test_each_write_of_an_overtaken_run_is_refused(key):
    """Whatever a zombie makes of its run, its successor's run goes on."""
    outcome = record.enqueue(key)
    lease = Lease.of(claimed(outcome))
    rescued_and_due(outcome)
    successor = Lease.of(claimed(outcome))
    for act in (
        lambda: outcomes.succeed(lease, "null"),
        lambda: outcomes.fail(lease, Reason.DISCARDED),
        lambda: outcomes.stop(lease),
        lambda: outcomes.retry(lease, SOON),
        lambda: outcomes.snooze(lease, SOON),
        lambda: outcomes.release(lease),
    ):
        with pytest.raises(LeaseLost):
            act()
    assert outcomes.renew(lease) is False
    assert outcomes.cancel_requests([lease]) == {}
    assert outcomes.cancel_requests([successor]) == {outcome.pk: False}


def test_a_helper_that_fails_leaves_nothing(key, effects):
    """An atomic helper's writes go with its exception."""

    def write_and_fail(key, note=""):
        Effect.objects.create(key=key, note="failed")
        add.enqueue(1, 2)
        raise ValueError("after writing")

    outcome = record.enqueue(key)
    with pytest.raises(ValueError, match="after writing"):
        by_hand.run(claimed(outcome), write_and_fail)
    outcome.refresh()
    assert (outcome.state, effects()) == ("failed", [])
    assert not Outcome.objects.exclude(pk=outcome.pk).exists()


def test_a_second_message_for_a_running_outcome_is_dropped(key, effects):
    """However often the bell rings, one run at a time."""

    def answer_again(key, note=""):
        with pytest.raises(Ignore):
            by_hand.elsewhere(lambda: by_hand.answer(outcome))
        Effect.objects.create(key=key, note="once")

    outcome = record.enqueue(key)
    by_hand.answer(outcome, answer_again)
    assert effects() == ["once"]


def test_a_message_that_comes_after_the_end_is_dropped(key, effects):
    """What has succeeded is not run again, whoever rings for it."""
    outcome = record.enqueue(key)
    by_hand.answer(outcome)
    with pytest.raises(Ignore):
        by_hand.answer(outcome)
    assert effects() == [""]
