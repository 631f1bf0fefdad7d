"""
Promise 4: effects outside the database happen at least once, under a key that stays the same.

The scenarios that show the same with workers: `test_attempts` (retries) and `test_crashes`.
"""

from __future__ import annotations

import pytest
from celery.exceptions import Retry as Retrying

from tasks_app import Retry, current, outcomes, rescue
from tasks_app.runs import Run, entered
from tests import by_hand, trail
from tests.integration.command_line import claimed, failed
from tests.testapp.tasks import add, record, record_once, succeed_at

pytestmark = pytest.mark.django_db(transaction=True)


def provider_keys(key):
    """Return the keys that a provider was given, the first one first."""
    return [line["provider_key"] for line in trail.left(key)]


def call_provider(key, note=""):
    """Have an effect that no rollback takes back."""
    trail.leave(key, provider_key=current.idempotency_key)


def test_a_run_whose_end_was_lost_is_repeated_under_the_same_key(key):
    """Between the provider's answer and our commit a plug is pulled: the call is made again."""
    outcome = record.enqueue(key)
    with entered(Run(claimed(outcome))):
        call_provider(key)
    by_hand.let_lease_run_out(outcome)
    assert rescue.run_once() == 1
    assert outcomes.run_now(outcome.pk)
    by_hand.run(claimed(outcome), call_provider)
    outcome.refresh()
    assert (outcome.state, outcome.crashes) == ("succeeded", 1)
    assert provider_keys(key) == [str(outcome.pk)] * 2


def test_the_key_is_the_same_in_each_attempt(key):
    """A retry speaks to the provider of the same wish."""

    def call_and_retry(key, attempt):
        call_provider(key)
        raise Retry(after=0)

    outcome = succeed_at.enqueue(key, 3)
    for _ in range(2):
        with pytest.raises(Retrying):
            by_hand.run(claimed(outcome), call_and_retry)
        outcomes.run_now(outcome.pk)
    assert provider_keys(key) == [str(outcome.pk)] * 2


def test_the_key_of_the_call_is_the_key_of_the_provider(key):
    """A wish that has a key of its own hands that on."""
    by_hand.run(claimed(record_once.enqueue(key)), call_provider)
    assert provider_keys(key) == [f"record:{key}"]


@pytest.mark.parametrize("task", [record, record_once], ids=lambda task: task.name)
def test_a_replay_hands_on_the_same_key(task, key):
    """An effect that did happen is known to the provider when its outcome is replayed."""
    first = failed(task.enqueue(key))
    again = first.replay()
    third = failed(again).replay()
    by_hand.run(claimed(third), call_provider)
    assert provider_keys(key) == [first.idempotency_key or str(first.pk)]


def test_outside_a_task_there_is_no_key():
    """The same code called directly has nothing to hand on, and two calls have two keys."""
    assert current.idempotency_key is None
    keys = set()
    for outcome in (add.enqueue(1, 2), add.enqueue(1, 2)):
        by_hand.run(claimed(outcome), lambda a, b: keys.add(current.idempotency_key))
    assert len(keys) == 2
