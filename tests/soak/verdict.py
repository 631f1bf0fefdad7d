"""What must have come of each call: the soak's own judgement, over plain facts.

`judge` takes what the clients were told, the rows, the effects and the trails at the end, and
returns one line for each broken promise. It knows what each of the soak's tasks must leave;
`tests.history.checker` judges the course of every outcome without knowing the tasks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.history.client import OK, Call

#: Children that a parent enqueues.
CHILDREN = 3

#: Outcomes that one bulk call enqueues.
BULK = 10

FINAL = ("succeeded", "failed", "cancelled", "expired")

#: Tasks that may end as cancelled.
CANCELLABLE = ("soak.effect", "soak.watching")


def child_key(key: str, number: int) -> str:
    """Return the key of a parent's child."""
    return f"{key}/child {number}"


@dataclass(frozen=True)
class Row:
    """
    An outcome at the end.

    Attributes:
        lost: How many of its attempts ended with the loss of their worker.
        succeeded: How many of its attempts succeeded.
    """

    id: UUID
    task: str
    key: str
    state: str
    reason: str = ""
    crashes: int = 0
    lost: int = 0
    succeeded: int = 0


@dataclass
class Facts:
    """All that is known at the end of a run."""

    rows: Mapping[UUID, Row]
    calls: Iterable[Call] = ()
    #: Committed effects, by key.
    effects: Counter[str] = field(default_factory=Counter)
    #: Lines that helpers left outside the database, by key.
    trails: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: The setting `MAX_CRASHES`.
    max_crashes: int = 3


def judge(facts: Facts) -> list[str]:
    """Return one line for each broken promise."""
    return [*_calls(facts), *_rows(facts), *_effects(facts)]


def lost(facts: Facts) -> list[UUID]:
    """Return the ids that a client was given and that have no final row."""
    promised = {each for call in facts.calls for each in promised_by(call)}
    return sorted(each for each in promised if not _is_final(facts.rows.get(each)))


def doubled(facts: Facts) -> list[str]:
    """Return the keys whose effect was committed more than once."""
    return sorted(key for key, count in facts.effects.items() if count > 1)


def unlucky(facts: Facts) -> list[Row]:
    """Return rows that faults alone killed so often that they count as poison."""
    return [
        row
        for row in facts.rows.values()
        if row.reason == "worker_lost" and row.task != "soak.poison"
    ]


def promised_by(call: Call) -> list[UUID]:
    """Return the outcomes that a call said it had enqueued."""
    if call.end != OK:
        return []
    if call.op == "enqueue_many":
        return [UUID(each) for each in call.told["ids"]]
    return [call.outcome_id] if call.op == "enqueue" and call.outcome_id else []


def _is_final(row: Row | None) -> bool:
    return row is not None and row.state in FINAL


# -- what clients were told -----------------------------------------------------------------------


def _calls(facts: Facts) -> Iterator[str]:
    for each in lost(facts):
        row = facts.rows.get(each)
        yield f"lost: {each} was enqueued and is {row.state if row else 'not there'}"
    for call in facts.calls:
        if call.op == "cancel" and call.end == OK:
            yield from _cancelled(facts, call)
    yield from _rolled_back(facts)
    yield from _keyed(facts)


def _cancelled(facts: Facts, call: Call) -> Iterator[str]:
    row = facts.rows.get(call.outcome_id) if call.outcome_id else None
    if call.told["state"] == "cancelled" and (row is None or row.state != "cancelled"):
        yield f"{call.outcome_id} was cancelled and is {row.state if row else 'not there'}"


def _rolled_back(facts: Facts) -> Iterator[str]:
    keys = {call.arguments[1] for call in facts.calls if call.op == "roll back"}
    for row in facts.rows.values():
        if row.key in keys:
            yield f"{row.task} {row.id} was rolled back and is {row.state}"


def _keyed(facts: Facts) -> Iterator[str]:
    told: dict[str, list[Call]] = defaultdict(list)
    for call in facts.calls:
        if call.op == "enqueue" and call.key and call.end == OK:
            told[call.key].append(call)
    for key, calls in told.items():
        if len({call.outcome_id for call in calls}) > 1:
            yield f"the idempotency key {key} led to {len(calls)} different outcomes"
        if sum(call.told["created"] for call in calls) > 1:
            yield f"the idempotency key {key} was free more than once"


# -- what became of the rows ----------------------------------------------------------------------


def _rows(facts: Facts) -> Iterator[str]:
    by_key = Counter(row.key for row in facts.rows.values())
    for key, count in by_key.items():
        if count > 1:
            yield f"{count} outcomes have the key {key}, which was enqueued once"
    for row in facts.rows.values():
        for what in _row(row, facts):
            yield f"{row.task} {row.id} (key {row.key}, {row.state} {row.reason}): {what}"
        if row.task == "soak.parent":
            yield from _children(row, by_key)


def _row(row: Row, facts: Facts) -> Iterator[str]:
    if not _is_final(row):
        yield "it never ended"
    elif row.reason == "worker_lost":
        if row.crashes != facts.max_crashes or row.lost != facts.max_crashes:
            yield f"given up after {row.crashes} crashes, {row.lost} of them recorded"
    elif row.state == "cancelled":
        if row.task not in CANCELLABLE:
            yield "nobody cancelled it"
    elif row.state != "succeeded":
        yield "it should have succeeded"
    elif row.task == "soak.poison":
        yield "it cannot have succeeded"
    if row.succeeded != (row.state == "succeeded"):
        yield f"{row.succeeded} attempts succeeded"


def _children(parent: Row, by_key: Counter[str]) -> Iterator[str]:
    found = sum(by_key[child_key(parent.key, number)] for number in range(CHILDREN))
    expected = CHILDREN if parent.state == "succeeded" else 0
    if found != expected:
        yield f"{parent.id} ({parent.state}) has {found} children instead of {expected}"


# -- what the helpers left ------------------------------------------------------------------------


def _effects(facts: Facts) -> Iterator[str]:
    known = set()
    for row in facts.rows.values():
        known.add(row.key)
        if row.task == "soak.external":
            yield from _trail(row, facts.trails.get(row.key, []))
            continue
        expected = int(row.state == "succeeded")
        if facts.effects[row.key] != expected:
            count = facts.effects[row.key]
            yield f"{row.task} {row.id} ({row.state}) took effect {count} times, not {expected}"
    for key in facts.effects.keys() - known:
        yield f"an effect with the key {key} belongs to no outcome"


def _trail(row: Row, lines: list[dict[str, Any]]) -> Iterator[str]:
    if row.state == "succeeded" and not lines:
        yield f"{row.task} {row.id} succeeded without having called its provider"
    if len({line["provider_key"] for line in lines}) > 1:
        yield f"{row.task} {row.id} gave its provider different keys"
