"""Claims against pauses: each outcome is claimed or waits, and nobody waits for the other."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from tasks_app import outcomes, queues
from tasks_app.models import Outcome, PausedQueue
from tests import by_hand
from tests.races.two import at_once, wins
from tests.testapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)


def claim(outcome):
    return outcomes.claim(outcome.pk, frozenset({outcome.task_name}), "worker")


def test_a_claim_and_a_pause_at_once_leave_a_row_that_is_one_or_the_other():
    """Whichever came first; after both nothing of the queue begins."""
    for _ in range(10):
        outcome = add.enqueue(1, 2)
        is_claimed, is_paused = at_once(
            lambda: wins(lambda: claim(outcome)),  # noqa: B023 - done within the round
            lambda: wins(lambda: queues.pause(outcome.queue)),  # noqa: B023
        )
        outcome.refresh()
        assert is_paused
        assert outcome.state == ("running" if is_claimed else "pending")
        assert claim(add.enqueue(1, 2)) is None
        assert queues.resume(outcome.queue)


def test_a_claim_does_not_wait_for_a_pause_that_is_not_committed():
    """It reads what is committed, and takes no lock on what is not."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    outcome = add.enqueue(1, 2)
    with transaction.atomic():
        assert queues.pause(outcome.queue)
        assert by_hand.elsewhere(lambda: claim(outcome)) is not None
    assert claim(add.enqueue(1, 2)) is None


def test_no_pause_waits_for_a_claim_that_is_not_committed():
    """Whoever stops a queue in an emergency is not held up by its workers."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    outcome = add.enqueue(1, 2)
    with transaction.atomic():
        assert claim(outcome) is not None
        assert by_hand.elsewhere(lambda: queues.pause(outcome.queue))
        assert by_hand.elsewhere(lambda: queues.resume(outcome.queue))


def test_many_claims_and_pauses_deadlock_nowhere():
    """Claims of many rows beside a queue that is paused and resumed again and again."""
    found = [Outcome.objects.get(pk=pk) for pk in add.enqueue_many([(n, 0) for n in range(40)])]

    def claim_all():
        return sum(wins(lambda: claim(outcome)) for outcome in found)  # noqa: B023

    def pause_and_resume():
        for _ in range(20):
            wins(lambda: queues.pause(found[0].queue))
            wins(lambda: queues.resume(found[0].queue))
        return 0

    at_once(claim_all, claim_all, pause_and_resume)
    for outcome in found:
        claim(outcome)
    assert set(Outcome.objects.values_list("state", "attempt")) == {("running", 1)}
    assert not PausedQueue.objects.exists()


def test_one_of_two_pauses_is_the_first():
    """Of two who pause a queue at once, one is told that he did."""
    for _ in range(5):
        told = at_once(
            lambda: queues.pause("q", by="a"),
            lambda: queues.pause("q", by="b"),
        )
        assert sorted(told) == [False, True]
        assert PausedQueue.objects.get().paused_by == ("a" if told[0] else "b")
        queues.resume("q")
