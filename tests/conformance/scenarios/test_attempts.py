"""What a helper may do to its attempt: fail, ask for more time, give up, misbehave."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests import trail
from tests.installation import PATIENCE
from tests.testapp import tasks

pytestmark = pytest.mark.usefixtures("worker")


def test_a_failure_is_retried_until_it_succeeds(key, effects, settled):
    """Failed attempts leave no effect in the database; the one that succeeds leaves its own."""
    outcome = settled(tasks.succeed_at.enqueue(key, 3))
    assert (outcome.state, outcome.attempt, outcome.result) == ("succeeded", 3, 3)
    assert effects() == ["attempt 3"]
    assert [line["attempt"] for line in trail.left(key)] == [1, 2, 3]
    assert len({line["provider_key"] for line in trail.left(key)}) == 1


def test_attempts_are_apart_by_the_backoff(key, settled):
    """Retries wait longer each time, as the policy says."""
    outcome = settled(tasks.succeed_at.enqueue(key, 3))
    first, second, third = outcome.attempts.order_by("fence")
    assert second.started_at - first.finished_at >= timedelta(seconds=0.1)
    assert third.started_at - second.finished_at >= timedelta(seconds=0.2)


def test_exhausted_retries_are_a_failure_with_its_reason(key, effects, settled):
    """The last attempt's error is kept, and nothing of any attempt's writes."""
    outcome = settled(tasks.succeed_at.enqueue(key, 9))
    assert (outcome.state, outcome.reason) == ("failed", "retries_exhausted")
    assert outcome.attempt == outcome.attempts.count() == 3
    assert "attempt 3 is not 9" in outcome.error
    assert effects() == []


def test_retry_asks_for_another_attempt(key, effects, settled):
    """A helper that raises Retry runs again, and the attempt counts."""
    outcome = settled(tasks.ask_for_retry.enqueue(key))
    assert (outcome.state, outcome.attempt) == ("succeeded", 2)
    assert effects() == [""]


def test_snooze_costs_no_attempt(key, effects, settled):
    """A helper that raises Snooze comes back as often as it likes."""
    outcome = settled(tasks.ask_for_snooze.enqueue(key))
    assert (outcome.state, outcome.attempt) == ("succeeded", 1)
    assert [line["attempt"] for line in trail.left(key)] == [1, 1, 1]
    assert effects() == [""]


def test_discard_gives_up_at_once(key, effects, settled):
    """A helper that raises Discard is not tried again, whatever its policy."""
    outcome = settled(tasks.discard.enqueue(key))
    assert (outcome.state, outcome.reason, outcome.attempt) == ("failed", "discarded", 1)
    assert "nobody wants it" in outcome.error
    assert effects() == []


@pytest.mark.parametrize(
    "kind", ["system_exit", "keyboard_interrupt", "memory", "unprintable", "unpicklable", "nul"]
)
def test_whatever_a_helper_raises_is_its_own_failure(kind, key, effects, settled):
    """No exception of a helper takes the worker with it or stays unrecorded."""
    outcome = settled(tasks.fail_with.enqueue(key, kind))
    assert outcome.state == "failed"
    assert outcome.error
    assert effects() == []
    assert tasks.add.enqueue(1, 2).get(timeout=PATIENCE) == 3


@pytest.mark.parametrize("kind", ["object", "large", "nan", "set"])
def test_a_result_that_cannot_be_stored_is_still_a_success(kind, settled):
    """The work was done: only its result is left out, with the reason."""
    outcome = settled(tasks.give_back.enqueue(kind))
    assert outcome.state == "succeeded"
    assert outcome.result is None
    assert outcome.result_omitted


def test_a_hard_time_limit_ends_the_attempt(key, effects, settled):
    """A helper that outstays its limit fails as such and leaves nothing."""
    outcome = settled(tasks.record_briefly.enqueue(key))
    trail.open_gate(key)
    assert (outcome.state, outcome.reason) == ("failed", "time_limit")
    assert effects() == []
    # A process that is being killed must not take the pool's lock or a task with it.
    for number in range(10):
        assert tasks.add.enqueue(number, 1).get(timeout=PATIENCE) == number + 1


def test_a_replay_is_a_new_outcome(key, effects, settled):
    """A final state never changes: what runs again is a new row that points to the old one."""
    first = settled(tasks.need_gate.enqueue(key))
    trail.open_gate(key)
    second = settled(first.replay())
    first.refresh()
    assert (first.state, second.state) == ("failed", "succeeded")
    assert second.pk != first.pk
    assert second.replay_of_id == first.pk
    assert effects() == [""]


def test_the_database_connection_is_kept_from_task_to_task(key, installation):
    """A connection per task is what makes Celery slow on PostgreSQL."""
    queue = tasks.know_connection.using(queue=key)
    with installation.start_worker(f"keeping-{key}", queues=[key], concurrency=1):
        known = [queue.enqueue().get(timeout=PATIENCE) for _ in range(3)]
    assert known == [False, True, True]
