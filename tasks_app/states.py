"""
The states of an outcome and the moves between them.

Pure words: `outcomes.py` writes them, the documentation draws them from `TRANSITIONS`, and a
test holds every guarded statement against this table. A final state is never left.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where an outcome stands; stored as written here."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Reason(StrEnum):
    """Why an outcome is `failed`; empty in every other state."""

    RETRIES_EXHAUSTED = "retries_exhausted"
    NOT_RETRYABLE = "not_retryable"
    DISCARDED = "discarded"
    WORKER_LOST = "worker_lost"
    TIME_LIMIT = "time_limit"
    UNREGISTERED = "unregistered"


class AttemptState(StrEnum):
    """How one run of an outcome ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    SNOOZED = "snoozed"
    RELEASED = "released"
    CANCELLED = "cancelled"
    LOST = "lost"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})


@dataclass(frozen=True, slots=True)
class Transition:
    """One act of `outcomes.py`: the state it expects and the states it may leave."""

    act: str
    source: State
    targets: tuple[State, ...]


TRANSITIONS = (
    Transition("claim", State.PENDING, (State.RUNNING,)),
    Transition("expire", State.PENDING, (State.EXPIRED,)),
    Transition("cancel", State.PENDING, (State.CANCELLED,)),
    Transition("give_up", State.PENDING, (State.FAILED,)),
    Transition("discard", State.PENDING, (State.FAILED,)),
    Transition("move", State.PENDING, (State.PENDING,)),
    Transition("renew", State.RUNNING, (State.RUNNING,)),
    Transition("succeed", State.RUNNING, (State.SUCCEEDED,)),
    Transition("retry", State.RUNNING, (State.PENDING, State.CANCELLED)),
    Transition("snooze", State.RUNNING, (State.PENDING, State.CANCELLED)),
    Transition("release", State.RUNNING, (State.PENDING, State.CANCELLED)),
    Transition("fail", State.RUNNING, (State.FAILED,)),
    Transition("stop", State.RUNNING, (State.CANCELLED,)),
    Transition("rescue", State.RUNNING, (State.PENDING, State.FAILED, State.CANCELLED)),
)
