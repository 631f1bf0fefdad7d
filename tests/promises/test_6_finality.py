"""Promise 6: a final state never changes; a replay is a new outcome."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tasks_app import outcomes
from tasks_app.exceptions import LeaseLost
from tasks_app.leases import Failure, Lease
from tasks_app.models import Attempt, Outcome
from tasks_app.states import FINAL, TRANSITIONS, Reason
from tests.integration.command_line import ago, claimed, failed, rewritten, succeeded
from tests.testapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)

SOON = timedelta(0)

#: Every act of `outcomes.py` as somebody who comes too late would try it: with the outcome as he
#: last saw it, and with the lease that he had.
ACTS = {
    "claim": lambda seen: outcomes.claim(seen.pk, frozenset({seen.task_name}), "late"),
    "expire": lambda seen: outcomes.expire(seen.pk),
    "cancel": lambda seen: outcomes.cancel(seen.pk),
    "give_up": lambda seen: outcomes.give_up(seen.pk, Reason.UNREGISTERED, "late"),
    "discard": lambda seen: outcomes.discard(seen.pk, "late"),
    "move": lambda seen: outcomes.move(seen.pk, "late", 9),
    "run_now": lambda seen: outcomes.run_now(seen.pk),
    "postpone": lambda seen: outcomes.postpone(seen.pk, ago(days=1)),
    "request_cancel": lambda seen: outcomes.request_cancel(seen.pk),
    "renew": lambda seen: outcomes.renew(Lease.of(seen)),
    "succeed": lambda seen: outcomes.succeed(Lease.of(seen), "1"),
    "retry": lambda seen: outcomes.retry(Lease.of(seen), SOON),
    "snooze": lambda seen: outcomes.snooze(Lease.of(seen), SOON),
    "release": lambda seen: outcomes.release(Lease.of(seen)),
    "fail": lambda seen: outcomes.fail(Lease.of(seen), Reason.DISCARDED),
    "stop": lambda seen: outcomes.stop(Lease.of(seen)),
    "rescue": lambda seen: outcomes.rescue(seen, SOON, Failure(), is_known_dead=True),
}


def stopped(outcome):
    """Run an outcome to its cancellation."""
    outcomes.stop(Lease.of(claimed(outcome)))
    outcome.refresh()
    return outcome


def expired(outcome):
    """Let an outcome expire."""
    assert outcomes.expire(rewritten(outcome, expires_at=ago(hours=1)).pk)
    outcome.refresh()
    return outcome


ENDS = {"succeeded": succeeded, "failed": failed, "cancelled": stopped, "expired": expired}


def row(outcome):
    """Return every column of a row."""
    return Outcome.objects.filter(pk=outcome.pk).values().get()


def as_last_seen(outcome):
    """Return a final outcome as its worker knew it: running, under the fence it ended with."""
    seen = Outcome.objects.get(pk=outcome.pk)
    seen.state, seen.claimed_at, seen.lease_until = "running", ago(minutes=1), ago(seconds=-30)
    seen.finished_at = None
    return seen


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("state", ENDS)
def test_no_act_changes_a_final_outcome(state, act):
    """Whoever comes late finds zero rows, and the row stays as it is."""
    outcome = ENDS[state](add.enqueue(1, 2))
    is_over = ago(hours=1) if act == "expire" else None
    rewritten(outcome, expires_at=is_over, cancel_requested_at=None)
    before, attempts = row(outcome), Attempt.objects.count()
    assert before["state"] == state
    try:
        done = ACTS[act](as_last_seen(outcome))
    except LeaseLost:
        done = False
    assert not done
    assert row(outcome) == before
    assert Attempt.objects.count() == attempts


@pytest.mark.parametrize("state", ENDS)
def test_a_cancellation_that_comes_late_changes_nothing(state):
    """The user's own method is told that it was too late."""
    outcome = ENDS[state](add.enqueue(1, 2))
    before = row(outcome)
    assert outcome.cancel() is (state == "cancelled")
    assert outcome.run_now() is False
    assert row(outcome) == before


@pytest.mark.parametrize("state", ENDS)
def test_a_replay_is_a_new_outcome(state):
    """The old row stays as it is; the new one points to it and waits to be run."""
    outcome = ENDS[state](add.enqueue(1, 2))
    before = row(outcome)
    again = outcome.replay()
    assert row(outcome) == before
    assert again.pk != outcome.pk
    assert (again.state, again.replay_of_id, again.args) == ("pending", outcome.pk, [1, 2])


def test_a_replay_asks_the_row_whether_it_is_final():
    """An instance that was read before the end knows nothing of it."""
    outcome = add.enqueue(1, 2)
    ENDS["failed"](Outcome.objects.get(pk=outcome.pk))
    assert outcome.state == "pending"
    assert outcome.replay().replay_of_id == outcome.pk


@pytest.mark.parametrize("reach", [lambda outcome: outcome, claimed], ids=["pending", "running"])
def test_what_is_not_final_is_not_replayed(reach):
    """A replay of what may still run would run it twice."""
    outcome = reach(add.enqueue(1, 2))
    with pytest.raises(ValueError, match="only a final outcome can be replayed"):
        outcome.replay()
    assert Outcome.objects.get() == outcome


def test_every_transition_and_every_end_is_tried():
    """An act or a state that is added has to be added here."""
    assert {transition.act for transition in TRANSITIONS} <= set(ACTS)
    assert set(ENDS) == set(FINAL)
