"""The soak's judge finds each kind of broken promise in facts that are made to have it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from uuid import UUID

import pytest

from tests.history.client import INFO, OK, Call
from tests.soak.verdict import CHILDREN, Facts, Row, child_key, doubled, judge, lost

ONE, TWO = UUID(int=1), UUID(int=2)
GOOD = Row(ONE, "soak.effect", "key", "succeeded", succeeded=1)


def told(op, outcome_id=ONE, key=None, **more):
    return Call(op, 0.0, 1.0, OK, key=key, outcome_id=outcome_id, told=more)


def facts(*rows, calls=(), effects=("key",), trails=None):
    return Facts(
        {row.id: row for row in rows}, list(calls), Counter(effects), trails or {}, max_crashes=3
    )


def test_a_run_in_which_everything_went_well_is_in_order():
    """The judge accepts what must happen."""
    assert judge(facts(GOOD, calls=[told("enqueue")])) == []


def test_an_outcome_that_a_client_was_told_of_and_that_is_gone_is_lost():
    """Only a final row keeps the promise of `enqueue`."""
    gone = facts(calls=[told("enqueue")], effects=())
    waiting = facts(replace(GOOD, state="pending"), calls=[told("enqueue")])
    assert lost(gone) == lost(waiting) == [ONE]
    assert judge(gone)
    assert judge(waiting)


def test_what_nobody_was_told_may_be_gone():
    """A call whose end was not seen promises nothing."""
    assert judge(facts(calls=[Call("enqueue", 0.0, end=INFO)], effects=())) == []


def test_an_outcome_of_a_bulk_call_can_be_lost():
    """Each id that `enqueue_many` returned is a promise."""
    calls = [told("enqueue_many", None, ids=[str(ONE), str(TWO)])]
    assert lost(facts(GOOD, calls=calls)) == [TWO]


def test_a_second_effect_is_found():
    """An effect that is committed twice breaks exactly-once."""
    twice = facts(GOOD, effects=("key", "key"))
    assert doubled(twice) == ["key"]
    assert judge(twice)


def test_an_effect_of_a_run_that_did_not_succeed_is_found():
    """What failed has left nothing."""
    cancelled = replace(GOOD, state="cancelled", succeeded=0)
    assert judge(facts(cancelled, effects=())) == []
    assert judge(facts(cancelled))


def test_an_effect_of_nobody_is_found():
    """A committed effect without its row is a phantom."""
    assert judge(facts())


@pytest.mark.parametrize("change", [{"crashes": 2, "lost": 2}, {"crashes": 3, "lost": 2}])
def test_poison_is_given_up_after_as_many_crashes_as_are_allowed(change):
    """Neither earlier nor without a record of each."""
    poison = Row(ONE, "soak.poison", "key", "failed", "worker_lost", crashes=3, lost=3)
    assert judge(facts(poison, effects=())) == []
    assert judge(facts(replace(poison, **change), effects=()))


def test_what_was_never_to_fail_and_failed_is_found():
    """Faults may delay an outcome, but its end is the helper's."""
    failed = replace(GOOD, state="failed", reason="retries_exhausted", succeeded=0)
    assert judge(facts(failed, effects=()))


def test_a_cancellation_that_was_confirmed_and_did_not_hold_is_found():
    """A client that was told `cancelled` must never see it run."""
    assert judge(facts(GOOD, calls=[told("cancel", state="cancelled")]))
    assert judge(facts(GOOD, calls=[told("cancel", state="running")])) == []


def test_a_rolled_back_outcome_that_is_there_is_found():
    """A rollback takes the row with it."""
    call = Call("roll back", 0.0, 1.0, OK, arguments=["soak.effect", "key"])
    assert judge(facts(GOOD, calls=[call]))


def test_a_key_that_led_to_two_outcomes_is_found():
    """Every call with a key is told of the same outcome, and one of them made it."""
    first = told("enqueue", ONE, "k", created=True)
    assert judge(facts(GOOD, calls=[first, told("enqueue", ONE, "k", created=False)])) == []
    assert judge(facts(GOOD, calls=[first, told("enqueue", ONE, "k", created=True)]))
    other = replace(GOOD, id=TWO, key="other")
    second = told("enqueue", TWO, "k", created=False)
    assert judge(facts(GOOD, other, calls=[first, second], effects=("key", "other")))


@pytest.mark.parametrize("count", range(CHILDREN + 1))
def test_a_parent_has_all_of_its_children_or_none(count):
    """Children commit with the parent's success."""
    parent = replace(GOOD, task="soak.parent")
    keys = [child_key("key", number) for number in range(count)]
    children = [replace(GOOD, id=UUID(int=9 + number), key=key) for number, key in enumerate(keys)]
    found = judge(facts(parent, *children, effects=("key", *keys)))
    assert bool(found) == (count != CHILDREN)


def test_a_provider_that_was_not_called_or_given_other_keys_is_found():
    """External effects happen at least once, under one key."""
    row = replace(GOOD, task="soak.external")
    line = {"provider_key": "a"}
    assert judge(facts(row, effects=(), trails={"key": [line, line]})) == []
    assert judge(facts(row, effects=()))
    assert judge(facts(row, effects=(), trails={"key": [line, {"provider_key": "b"}]}))
