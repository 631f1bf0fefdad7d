"""
Each guarded statement against each other: of two that expect the same state, one hits the row.

Whatever the winner is, the row then is in one of its states, and there is one record of the run.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations_with_replacement, product

import pytest
from django.db import connection

from tasks_app import outcomes
from tasks_app.leases import Failure, Lease
from tasks_app.models import Outcome
from tasks_app.states import TRANSITIONS, Reason, State
from tests import by_hand
from tests.integration.command_line import ago, claimed, rewritten
from tests.races.two import at_once, one_inside_the_other, wins
from tests.testapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)

SOON = timedelta(0)

#: Acts on a pending outcome.
PENDING = {
    "claim": lambda seen: outcomes.claim(seen.pk, frozenset({seen.task_name}), "worker"),
    "cancel": lambda seen: outcomes.cancel(seen.pk),
    "give_up": lambda seen: outcomes.give_up(seen.pk, Reason.UNREGISTERED, "unknown"),
    "discard": lambda seen: outcomes.discard(seen.pk, "discarded"),
    "expire": lambda seen: outcomes.expire(seen.pk),
}

#: Acts on a running one that return nothing when they hit their row.
RUNNING = {
    "succeed": lambda seen: outcomes.succeed(Lease.of(seen), "1"),
    "fail": lambda seen: outcomes.fail(Lease.of(seen), Reason.DISCARDED),
    "stop": lambda seen: outcomes.stop(Lease.of(seen)),
    "retry": lambda seen: outcomes.retry(Lease.of(seen), SOON),
    "snooze": lambda seen: outcomes.snooze(Lease.of(seen), SOON),
    "release": lambda seen: outcomes.release(Lease.of(seen)),
    "rescue": lambda seen: outcomes.rescue(seen, SOON, Failure()),
    "renew": lambda seen: outcomes.renew(Lease.of(seen)),
}

TARGETS = {transition.act: transition.targets for transition in TRANSITIONS}

#: Both may win, since a run that was renewed goes on to its end; or one never can, since no row is
#: both due for a run and past its expiry.
NO_RIVALS = [{"renew", act} for act in RUNNING if act != "rescue"] + [{"claim", "expire"}]


def pairs(acts):
    """Return each pair of acts of which exactly one can win."""
    return [two for two in combinations_with_replacement(acts, 2) if set(two) not in NO_RIVALS]


def pending(act_names):
    """Return a pending outcome on which the acts may win."""
    outcome = add.enqueue(1, 2)
    return rewritten(outcome, expires_at=ago(hours=1)) if "expire" in act_names else outcome


def orphaned():
    """Return an outcome as its worker knows it: running, though its lease has run out."""
    outcome = claimed(add.enqueue(1, 2))
    by_hand.let_lease_run_out(outcome)
    outcome.refresh()
    return outcome


def ended(act, seen):
    """Do one of the acts on running outcomes; return whether it hit its row."""
    return RUNNING[act](seen) is not False


def check(outcome, names, results):
    """Hold the row against the one act that won."""
    assert sorted(results) == [False, True]
    winner = names[results.index(True)]
    outcome.refresh()
    assert State(outcome.state) in TARGETS[winner]
    # A pending outcome has no run to record; a renewed one is still running.
    assert outcome.attempts.count() == (winner in RUNNING and winner != "renew")


@pytest.mark.parametrize("names", pairs(PENDING), ids="-".join)
def test_one_of_two_takes_what_is_pending(names):
    """Started, cancelled, given up or expired, but one of them only."""
    outcome = pending(names)
    acts = [lambda name=name: wins(lambda: PENDING[name](outcome)) for name in names]
    check(outcome, names, at_once(*acts))


@pytest.mark.parametrize(
    "names",
    pairs(RUNNING),
    ids="-".join,
)
def test_one_of_two_ends_what_is_running(names):
    """A run has one end, and a rescuer and a renewal exclude each other."""
    outcome = orphaned()
    acts = [lambda name=name: wins(lambda: ended(name, outcome)) for name in names]
    check(outcome, names, at_once(*acts))


@pytest.mark.parametrize(
    "names",
    [
        *product(("claim", "cancel"), repeat=2),
        *product(("succeed", "rescue"), repeat=2),
        ("retry", "rescue"),
        ("rescue", "retry"),
        ("renew", "rescue"),
        ("rescue", "renew"),
    ],
    ids="-".join,
)
def test_the_second_finds_what_the_first_has_committed(names):
    """A statement that waited for a row's lock judges the row by what it is then."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite shows nobody who waits for its lock")
    is_pending = names[0] in PENDING
    outcome = pending(names) if is_pending else orphaned()
    acts = [
        (lambda name=name: PENDING[name](outcome) not in (None, False))
        if is_pending
        else (lambda name=name: ended(name, outcome))
        for name in names
    ]
    first, second = acts
    results = one_inside_the_other(first, lambda: wins(second))
    assert results == [True, False]
    check(outcome, names, results)


def test_one_request_of_two_is_the_first():
    """Only one of two who ask a running outcome to stop is told that he was the one."""
    outcome = claimed(add.enqueue(1, 2))
    ask = lambda: wins(lambda: outcomes.request_cancel(outcome.pk))  # noqa: E731
    assert sorted(at_once(ask, ask)) == [False, True]


def test_a_cancellation_always_takes_hold():
    """Against a claim, `cancel` either ends what waits or asks what runs; it never misses."""
    for _ in range(10):
        outcome = add.enqueue(1, 2)
        seen = Outcome.objects.get(pk=outcome.pk)
        claim = lambda: wins(lambda: PENDING["claim"](outcome))  # noqa: B023, E731
        is_claimed, is_cancelled = at_once(claim, seen.cancel)
        outcome.refresh()
        assert is_cancelled is True
        assert outcome.cancel_requested_at is not None
        assert outcome.state == ("running" if is_claimed else "cancelled")
