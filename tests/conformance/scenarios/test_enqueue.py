"""From a caller's transaction to one run: enqueueing in all its forms."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.utils import timezone

from tasks_app.exceptions import IdempotencyConflict
from tasks_app.models import Outcome
from tests import trail
from tests.installation import PATIENCE, in_state
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("worker")


def enqueue_and_abandon(key):
    """Enqueue in a transaction, or in a savepoint of the one around, that rolls back."""
    with transaction.atomic():
        lost = tasks.record.enqueue(key, "lost")
        transaction.set_rollback(True)
    return lost


def test_a_commit_runs_the_task_once(key, effects, settled):
    """What was enqueued in a transaction runs once, after the commit."""
    with transaction.atomic():
        outcome = tasks.record.enqueue(key, "committed")
        assert trail.left(key) == []
    assert settled(outcome).state == "succeeded"
    assert effects() == ["committed"]
    assert outcome.attempt == 1


def test_a_rollback_leaves_nothing(key, effects, settled):
    """What was enqueued in a transaction that rolls back never was."""
    lost = enqueue_and_abandon(key)
    witness = tasks.record.enqueue(key, "witness")
    assert settled(witness).state == "succeeded"
    assert not Outcome.objects.filter(pk=lost.pk).exists()
    assert effects() == ["witness"]


def test_a_rolled_back_savepoint_leaves_nothing(key, effects, settled):
    """Only what the outer transaction still holds at its commit runs."""
    with transaction.atomic():
        kept = tasks.record.enqueue(key, "kept")
        lost = enqueue_and_abandon(key)
    assert settled(kept).state == "succeeded"
    assert not Outcome.objects.filter(pk=lost.pk).exists()
    assert effects() == ["kept"]


def test_delay_returns_a_working_async_result():
    """Celery's own call has Celery's own result, named by the outcome's id."""
    result = tasks.add.delay(1, 2)
    assert result.get(timeout=PATIENCE) == 3
    assert result.successful()
    assert Outcome.objects.get(pk=result.id).result == 3


def test_apply_async_of_a_failing_task_raises_from_its_result(key):
    """A failure reaches whoever waits for the AsyncResult."""
    result = tasks.need_gate.apply_async((key,))
    with pytest.raises(Exception, match="the gate is closed"):
        result.get(timeout=PATIENCE)
    assert result.failed()
    assert result.state == "FAILURE"


def test_get_returns_the_result():
    """The caller can wait for the outcome itself."""
    assert tasks.add.enqueue(20, b=22).get(timeout=PATIENCE) == 42


def test_a_call_of_the_task_is_a_call_of_the_helper(key, effects):
    """Calling the task runs the helper here and now, without an outcome."""
    assert tasks.add(1, 2) == 3
    tasks.record(key, "direct")
    assert effects() == ["direct"]


def test_a_countdown_holds_the_task_back(settled):
    """A countdown is kept in the row: it never runs before."""
    result = tasks.add.apply_async((1, 2), countdown=1.5)
    outcome = settled(Outcome.objects.get(pk=result.id))
    assert outcome.state == "succeeded"
    assert outcome.started_at - outcome.created_at >= timedelta(seconds=1.5)


@pytest.mark.parametrize(
    "run_after",
    [timedelta(seconds=1.5), lambda: timezone.now() + timedelta(seconds=1.5)],
    ids=["span", "moment"],
)
def test_run_after_holds_the_task_back(run_after, settled):
    """A time or a span says from when on the task may run."""
    moment = run_after() if callable(run_after) else run_after
    outcome = settled(tasks.add.using(run_after=moment).enqueue(1, 2))
    assert outcome.state == "succeeded"
    assert outcome.started_at >= outcome.run_at
    assert outcome.started_at - outcome.created_at >= timedelta(seconds=1.4)


def test_an_equal_call_with_the_same_key_is_the_same_outcome(key, effects, settled):
    """An idempotency key makes one outcome of equal calls, before and after its end."""
    first = tasks.record_once.enqueue(key, "once")
    second = tasks.record_once.enqueue(key, "once")
    assert (first.created, second.created) == (True, False)
    assert settled(first).state == "succeeded"
    third = tasks.record_once.enqueue(key, "once")
    assert first.pk == second.pk == third.pk
    assert effects() == ["once"]


def test_another_call_with_the_same_key_is_a_conflict(key, effects, settled):
    """A key that stands for other arguments is refused; the transaction stays usable."""
    first = tasks.record_once.enqueue(key, "one")
    with transaction.atomic():
        with pytest.raises(IdempotencyConflict):
            tasks.record_once.enqueue(key, "other")
        witness = tasks.record.enqueue(key, "witness")
    assert settled(first).state == settled(witness).state == "succeeded"
    assert sorted(effects()) == ["one", "witness"]


def test_many_calls_are_written_at_once_in_order():
    """A bulk enqueue returns the ids in the order of the calls."""
    ids = tasks.add.enqueue_many([(number, 1) for number in range(30)])
    wait_until(
        lambda: Outcome.objects.filter(pk__in=ids, state="succeeded").count() == 30,
        PATIENCE,
        "thirty results",
    )
    results = {outcome.pk: outcome.result for outcome in Outcome.objects.filter(pk__in=ids)}
    assert [results[pk] for pk in ids] == list(range(1, 31))


def test_many_calls_take_tuples_and_dictionaries():
    """Each call of a bulk enqueue is given by position or by name."""
    first, second = tasks.add.enqueue_many([(1, 2), {"a": 3, "b": 4}])
    assert Outcome.objects.get(pk=first).get(timeout=PATIENCE) == 3
    assert Outcome.objects.get(pk=second).get(timeout=PATIENCE) == 7


def test_coroutines_enqueue_and_wait():
    """Async callers have the same means."""

    async def caller():
        outcome = await tasks.add.aenqueue(3, 4)
        result = await outcome.aget(timeout=PATIENCE)
        # Django would do so at the end of a request.
        await sync_to_async(connections.close_all)()
        return result

    assert asyncio.run(caller()) == 7


def test_an_async_helper_is_awaited():
    """A coroutine function is a helper like any other."""
    assert tasks.add_later.enqueue(5, 6).get(timeout=PATIENCE) == 11


def test_what_a_helper_enqueues_commits_with_it(key, effects, settled):
    """A child enqueued inside an atomic helper runs after that helper's commit."""
    outcome = settled(tasks.enqueue_child.enqueue(key, fail=False))
    assert outcome.state == "succeeded"
    child = Outcome.objects.get(parent_id=outcome.pk)
    assert settled(child).state == "succeeded"
    assert effects() == ["child"]


def test_what_a_failing_helper_enqueues_never_was(key, effects, settled):
    """A child enqueued inside an atomic helper goes with its rollback."""
    outcome = settled(tasks.enqueue_child.enqueue(key, fail=True))
    assert outcome.state == "failed"
    assert not Outcome.objects.filter(parent_id=outcome.pk).exists()
    assert effects() == []


def test_a_row_past_its_expiry_never_runs(key, effects):
    """What nobody took in time ends as expired."""
    outcome = tasks.record.using(expires=0.5, queue=f"unserved-{key}").enqueue(key)
    in_state(outcome, "expired")
    assert effects() == trail.left(key) == []


def test_higher_priority_runs_first(key, installation):
    """Rows that wait together run by priority, higher first."""
    with transaction.atomic():
        for priority in (1, 9, 5):
            tasks.record.using(queue=key, priority=priority).enqueue(key, str(priority))
    with installation.start_worker(f"priority-{key}", queues=[key], pool="solo"):
        wait_until(lambda: len(trail.left(key)) == 3, PATIENCE, "three runs")
    assert [line["note"] for line in trail.left(key)] == ["9", "5", "1"]
