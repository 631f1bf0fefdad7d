"""The checker finds each kind of fault in histories that are made to have it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from uuid import UUID

import pytest

from tests.history.checker import OutsideCall, Rule, check
from tests.history.client import FAIL, INFO, NEVER, OK, Call
from tests.history.log import OutcomeEvent

ONE, TWO = UUID(int=1), UUID(int=2)

PENDING, RUNNING, SUCCEEDED, FAILED = "pending", "running", "succeeded", "failed"
CANCELLED = "cancelled"


@dataclass
class Effect:
    outcome_id: UUID | None
    fence: int | None


class Story:
    """The events of one outcome, told from its insert on."""

    numbers = count(1)

    def __init__(self, outcome_id=ONE, **facts):
        row = {"task_name": "record", **facts}
        self.events = [
            OutcomeEvent(next(self.numbers), outcome_id, "insert", None, PENDING, None, 0, 0, **row)
        ]

    def then(self, state, fence=None, *, act="update", **changes):
        """Go on to a state; the fence stays where none is given."""
        last = self.events[-1]
        to_fence = last.to_fence if fence is None else fence
        event = replace(
            last,
            seq=next(self.numbers),
            act=act,
            from_state=last.to_state,
            to_state=state,
            from_fence=last.to_fence,
            to_fence=None if act == "delete" else to_fence,
            **changes,
        )
        self.events.append(event)
        return self

    def claimed(self, fence=1, attempt=1):
        return self.then(RUNNING, fence, attempt=attempt)

    def succeeded(self):
        return self.then(SUCCEEDED, finish_fence=self.events[-1].to_fence)

    def deleted(self):
        return self.then(None, act="delete")


def done(outcome_id=ONE, **facts):
    """Return the events of an outcome that succeeded at once."""
    return Story(outcome_id, **facts).claimed().succeeded().events


def enqueue(began, ended, outcome_id=ONE, *, key="k", arguments=(1,), end=OK, **told):  # noqa: PLR0913 - a call has many sides
    """Return an enqueue; without an end where nobody saw one."""
    ended = NEVER if end == INFO else ended
    return Call("enqueue", began, ended, end, "p", key, arguments, outcome_id, told)


def read(began, ended, state):
    return Call("read", began, ended, OK, "p", outcome_id=ONE, told={"state": state})


def rules(*records, **facts):
    """Return the rules that a history breaks."""
    return {violation.rule for violation in check(*records, **facts)}


def test_a_legal_history_breaks_no_rule():
    """Lost, rescued, retried, snoozed and renewed, and it succeeds in the end."""
    story = Story(idempotency_key="k").then(PENDING).claimed(1, 1).then(RUNNING).then(PENDING, 2)
    story.claimed(3, 2).then(PENDING, 4, attempt=1).claimed(5, 2).succeeded().then(SUCCEEDED)
    calls = [
        enqueue(1, 2, created=True),
        enqueue(3, 4, created=False),
        enqueue(3, 4, outcome_id=None, arguments=(2,), end=FAIL, error="IdempotencyConflict()"),
        enqueue(3, 4, outcome_id=None, end=INFO),
        read(5, 6, PENDING),
        read(7, 9, RUNNING),
        read(8, 9, PENDING),
        read(10, 11, SUCCEEDED),
    ]
    external = [OutsideCall(ONE, "k"), OutsideCall(ONE, "k")]
    facts = {"external_tasks": {"record"}, "healed": True}
    assert check(story.events, calls, [Effect(ONE, 5)], external, **facts) == []


def test_pruning_and_enqueueing_again_is_legal():
    """A key whose outcome is gone is free for another one."""
    events = Story(ONE, idempotency_key="k").claimed().succeeded().deleted().events
    again = done(TWO, idempotency_key="k")
    calls = [enqueue(1, 2), enqueue(3, 4, TWO)]
    effects = [Effect(ONE, 1), Effect(TWO, 1)]
    assert check(events + again, calls, effects, healed=True) == []


@pytest.mark.parametrize(
    "story",
    [
        Story().then(SUCCEEDED, 1),
        Story().then(FAILED, 1).then(CANCELLED, 2),
        Story().claimed().deleted(),
        Story().claimed().then("expired", 1, finish_fence=1),
    ],
    ids=["unclaimed", "after the end", "deleted while it ran", "expired while it ran"],
)
def test_a_move_that_no_act_makes_is_found(story):
    """Whoever wrote the state past the table of transitions left an event."""
    assert Rule.EDGES in rules(story.events, effects=[Effect(ONE, None)])


def test_a_change_that_the_log_did_not_see_is_found():
    """Between two events of an outcome there is nothing."""
    events = Story().then(PENDING).claimed().events
    del events[0]
    assert Rule.EDGES in rules(events)
    events = Story().claimed().then(PENDING, 2).claimed(3, 2).events
    del events[2]
    assert Rule.EDGES in rules(events)


@pytest.mark.parametrize(
    "story",
    [
        Story().claimed(5, 1).then(PENDING, 4),
        Story().claimed(1, 1).then(PENDING, 2).claimed(3, 1),
        Story().claimed(1, 3),
        Story().then(PENDING, attempt=1),
        Story().claimed(1, 1).then(PENDING, 2).claimed(3, 2).then(PENDING, 4, attempt=0),
        Story().then(FAILED, 1).then(PENDING, 2),
    ],
    ids=[
        "fence falls",
        "claim uncounted",
        "claim counted twice",
        "attempt out of nothing",
        "two attempts given back",
        "after the end",
    ],
)
def test_a_step_back_is_found(story):
    """Fences grow, attempts are counted, and the end is the end."""
    assert Rule.ORDER in rules(story.events)


def test_a_promised_row_that_never_was_is_found():
    """A client was told that its call is recorded."""
    assert rules(done(), [enqueue(1, 2), enqueue(1, 2, TWO, key="l")], [Effect(ONE, 1)]) == {
        Rule.ROWS,
        Rule.READS,
    }


def test_a_row_that_nobody_asked_for_is_found():
    """A refused call, or one under another key, explains no row; a child needs no client."""
    effects = [Effect(ONE, 1), Effect(TWO, 1)]
    first = [enqueue(1, 2, key=None)]
    refused = enqueue(3, 4, None, key=None, end=FAIL, error="TypeError()")
    elsewhere = enqueue(3, 4, None, key="other", end=INFO)
    unknown = enqueue(3, 4, None, key=None, end=INFO)
    assert rules(done() + done(TWO), first, effects) == {Rule.ROWS}
    assert rules(done() + done(TWO), [*first, refused, elsewhere], effects) == {Rule.ROWS}
    assert rules(done() + done(TWO), [*first, unknown], effects) == set()
    assert rules(done() + done(TWO, parent_id=ONE), first, effects) == set()


@pytest.mark.parametrize(
    ("events", "fences"),
    [
        (done(), []),
        (done(), [1, 1]),
        (Story().claimed().then(FAILED, finish_fence=1).events, [1]),
        (Story().claimed().then(PENDING, 2).claimed(3, 2).succeeded().events, [1]),
        (Story().claimed().then(PENDING, 2).claimed(3, 2).succeeded().events, [1, 3]),
    ],
    ids=["lost", "doubled", "of a failure", "of an overtaken run", "of both runs"],
)
def test_a_wrong_number_of_effects_is_found(events, fences):
    """One for a success, by the run that succeeded; none otherwise."""
    assert Rule.EFFECTS in rules(events, effects=[Effect(ONE, fence) for fence in fences])


def test_effects_of_other_tasks_are_not_expected():
    """A task that writes nothing has none, and an effect outside any run is nobody's."""
    assert rules(done(), effects=[Effect(None, None)], db_tasks={"other"}) == set()
    assert rules(done(), effects=[Effect(ONE, 1)], db_tasks={"other"}) == {Rule.EFFECTS}
    assert rules([], effects=[Effect(ONE, 1)]) == {Rule.EFFECTS}


@pytest.mark.parametrize(
    "story",
    [
        Story().claimed().then(PENDING, 1),
        Story().claimed().then(PENDING, 2).claimed(2, 2),
        Story().claimed().then(RUNNING, 2),
        Story().claimed(3, 1).then(SUCCEEDED, finish_fence=1),
        Story().claimed(1, 1).succeeded().then(SUCCEEDED, finish_fence=3),
        Story().then(CANCELLED, 0),
    ],
    ids=[
        "given back under its fence",
        "claimed under an old fence",
        "claimed while it ran",
        "ended by an overtaken run",
        "ended twice",
        "cancelled under its fence",
    ],
)
def test_two_runs_of_one_outcome_are_found(story):
    """Each run has a fence of its own, and nobody else's ends the row."""
    assert Rule.FENCES in rules(story.events)


def test_an_effect_of_a_run_that_never_was_is_found():
    """Its fence was the row's at no time."""
    assert Rule.FENCES in rules(done(), effects=[Effect(ONE, 1), Effect(ONE, 7)])


def test_two_rows_that_hold_one_key_are_found():
    """The second one was made before the first had ended."""
    first, second = Story(ONE, idempotency_key="k"), Story(TWO, idempotency_key="k")
    assert rules(first.claimed().events + second.events) == {Rule.KEYS}


@pytest.mark.parametrize(
    "calls",
    [
        [enqueue(1, 2, ONE), enqueue(3, 4, TWO)],
        [enqueue(1, 4, ONE), enqueue(2, 3, TWO)],
        [enqueue(1, 2, created=False), enqueue(3, 4, created=True)],
        [enqueue(1, 2, created=True), enqueue(3, 4, created=True)],
        [enqueue(1, 2), enqueue(3, 4, arguments=(2,))],
        [enqueue(1, 2, None, arguments=(2,), end=FAIL, error="IdempotencyConflict()")],
        [enqueue(1, 2, ONE), enqueue(3, 0, None, end=INFO), enqueue(5, 6, TWO)],
        [enqueue(1, 2, created=False), enqueue(3, 0, None, end=INFO)],
    ],
    ids=[
        "another one later",
        "another one meanwhile",
        "found before it was made",
        "made twice",
        "found with other arguments",
        "refused without a holder",
        "replaced by an unknown call",
        "found before an unknown call",
    ],
)
def test_an_answer_that_no_order_explains_is_found(calls):
    """A key leads to the outcome that took it first, whatever else went on."""
    first = Story(ONE, idempotency_key="k").claimed().succeeded().events
    second = Story(TWO, idempotency_key="k").claimed().succeeded().events
    assert Rule.KEYS in rules(first + second, calls, [Effect(ONE, 1), Effect(TWO, 1)])


def test_calls_that_overlap_may_have_happened_in_any_order():
    """Whoever began first need not be first, and a call without an answer may have been."""
    events = done(idempotency_key="k")
    effects = [Effect(ONE, 1)]
    overlap = [enqueue(1, 9, created=False), enqueue(2, 8, created=True)]
    assert rules(events, overlap, effects) == set()
    unknown = [enqueue(1, 0, None, end=INFO), enqueue(2, 3, created=False)]
    assert rules(events, unknown, effects) == set()
    conflict = enqueue(2, 3, None, arguments=(2,), end=FAIL, error="IdempotencyConflict()")
    assert rules(events, [unknown[0], conflict], effects) == set()


@pytest.mark.parametrize(
    "reads",
    [
        [read(5, 6, SUCCEEDED), read(7, 8, RUNNING)],
        [read(5, 6, RUNNING), read(7, 8, PENDING)],
        [read(5, 6, PENDING), read(7, 8, None)],
        [read(3, 4, None)],
        [read(3, 4, FAILED)],
    ],
    ids=["out of its end", "back to pending", "gone", "not there after its enqueue", "a lie"],
)
def test_a_read_that_goes_back_is_found(reads):
    """What one client has been told, no later read takes back."""
    assert rules(done(), [enqueue(1, 2, key=None), *reads], [Effect(ONE, 1)]) == {Rule.READS}


def test_reads_at_the_same_time_may_differ():
    """Of two that overlap, either may have come first."""
    calls = [enqueue(1, 2, key=None), read(3, 9, SUCCEEDED), read(4, 8, PENDING)]
    assert rules(done(), calls, [Effect(ONE, 1)]) == set()


def test_a_provider_that_was_not_called_is_found():
    """Success means that it was called, at least once."""
    assert rules(done(), effects=[Effect(ONE, 1)], external_tasks={"record"}) == {Rule.OUTSIDE}


def test_a_provider_that_was_given_two_keys_is_found():
    """All calls of one outcome are the same wish."""
    external = [OutsideCall(ONE, "k"), OutsideCall(ONE, "l")]
    assert rules(done(), [], [Effect(ONE, 1)], external) == {Rule.OUTSIDE}


@pytest.mark.parametrize("story", [Story(), Story().claimed()], ids=["pending", "running"])
def test_an_outcome_without_an_end_is_found(story):
    """Once the faults are over each outcome ends; before that it may wait."""
    assert rules(story.events) == set()
    assert rules(story.events, healed=True) == {Rule.ENDS}
