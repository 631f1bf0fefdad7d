"""
What becomes of slots whose time passed unnoticed, and of those that find the last run at work.

Pure: a timetable and two moments go in, decisions come out. The invariant of `plan`: what it
decides about a slot does not depend on how much it was asked to decide at a time, and each call
ends, whatever span lies behind. Which slots were decided is written by `slots.py`.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain, islice, takewhile
from typing import Final, NamedTuple

from tasks_app.periodic.timetables import Timetable, between

#: A slot is late when it is older than this and a newer one is due.
LATE: Final = timedelta(seconds=60)

#: The newest due slot is late when it is older than this: longer than a deploy takes.
PATIENCE: Final = timedelta(minutes=5)

#: Slots that one call of `plan` decides unless told otherwise.
LIMIT: Final = 100

_INSTANT: Final = timedelta(microseconds=1)
_SHORTEST_LOOK: Final = timedelta(milliseconds=1)


class Missed(StrEnum):
    """What becomes of late slots: none, the newest one, or all are made up."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"

    @classmethod
    def all(cls, max: int | None = None) -> "AtMost":  # noqa: A002 - the public name
        """Make up all late slots, the newest `max` of them at most."""
        return AtMost(cls.ALL, max)


class AtMost(NamedTuple):
    """A rule for late slots, with the number that is made up at most; None: no limit."""

    missed: Missed
    max: int | None = None


class Overlap(StrEnum):
    """What becomes of a slot while the last one's outcome goes on."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE_ONE = "queue_one"


class Decision(StrEnum):
    """What was decided about a slot; stored as written here."""

    #: In time.
    FIRED = "fired"
    #: Late, by the policy.
    MADE_UP = "made_up"
    #: Asked for over a range of past slots.
    BACKFILLED = "backfilled"
    #: Asked for beside the timetable.
    BY_HAND = "by_hand"
    #: Waits for the one before it.
    QUEUED = "queued"
    #: Late, left out by the policy.
    MISSED = "missed"
    #: Left out, since the one before it went on.
    OVERLAPPED = "overlapped"


@dataclass(frozen=True, slots=True)
class Policy:
    """How an entry treats late and overlapping slots; times are in seconds where no span is."""

    missed: Missed = Missed.LATEST
    missed_max: int | None = None
    overlap: Overlap = Overlap.ALLOW
    jitter: float = 0
    patience: timedelta = PATIENCE

    @property
    def made_up(self) -> int | None:
        """How many late slots are made up at most; None: all of them."""
        return {Missed.SKIP: 0, Missed.LATEST: 1, Missed.ALL: self.missed_max}[self.missed]


@dataclass(frozen=True, slots=True)
class Planned:
    """
    A slot and what is to become of it.

    With `since` it is `missed` and stands for all slots from that one on to its own: too many to
    be told one by one.
    """

    slot_at: datetime
    decision: Decision
    since: datetime | None = None


def due_at(entry_id: int, slot_at: datetime, jitter: float) -> datetime:
    """Return when a slot is decided: its time, put off by its own part of `jitter` seconds."""
    name = f"{entry_id}@{slot_at.astimezone(UTC).isoformat()}"
    part = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48
    return slot_at + timedelta(seconds=jitter * part)


def plan(  # noqa: PLR0913 - what a beat knows of an entry
    timetable: Timetable,
    after: datetime,
    now: datetime,
    policy: Policy,
    limit: int = LIMIT,
    *,
    entry_id: int | None = None,
) -> list[Planned]:
    """
    Decide the slots that are due and undecided, in order of time.

    Args:
        timetable: When the entry fires.
        after: The last slot that was decided.
        now: The present.
        policy: How the entry treats late slots.
        limit: Most slots decided by this call. The next one goes on after the last of them.
        entry_id: Whose slots these are; slots that jitter still puts off are then left alone.

    Under `skip`, `latest` and `all` with a number, late slots beyond the newest `limit` are told
    in one `missed` decision. Under `all` without one the oldest come first.
    """
    # Jitter puts off: a slot is not late before all of it has passed.
    jitter = timedelta(seconds=policy.jitter)
    late_until = now - LATE - jitter - _INSTANT
    fresh_after = max(after, late_until)

    def is_due(slot_at: datetime) -> bool:
        return entry_id is None or due_at(entry_id, slot_at, policy.jitter) <= now

    fresh = takewhile(is_due, between(timetable, fresh_after, now, limit))
    first = next(fresh, None)
    last_in_time = None
    if first is None:
        last_in_time = _in_time(timetable, after, late_until, now - policy.patience - jitter)
        late_until = min(late_until, (last_in_time or late_until + _INSTANT) - _INSTANT)
    in_time = chain(filter(None, (last_in_time, first)), fresh)
    late = _late(timetable, after, late_until, policy.made_up, limit)
    fired = (Planned(slot_at, Decision.FIRED) for slot_at in in_time)
    return list(islice(chain(late, fired), limit))


def _in_time(
    timetable: Timetable, after: datetime, until: datetime, patient_since: datetime
) -> datetime | None:
    """Return the newest slot, where no newer one is due, unless it is beyond all patience."""
    newest = deque(_newest(timetable, max(after, patient_since - _INSTANT), until, 1), maxlen=1)
    return newest[0] if newest else None


def _late(
    timetable: Timetable, after: datetime, until: datetime, made_up: int | None, limit: int
) -> Iterator[Planned]:
    """Decide late slots, the oldest first."""
    if made_up is None:
        for slot_at in between(timetable, after, until, limit):
            yield Planned(slot_at, Decision.MADE_UP)
        return
    told = max(limit, made_up)
    newest = _newest(timetable, after, until, told + 1)
    for index, slot_at in enumerate(newest):
        is_made_up = index >= len(newest) - made_up
        planned = Planned(slot_at, Decision.MADE_UP if is_made_up else Decision.MISSED)
        stands_for_more = index == 0 and len(newest) > told
        yield replace(planned, since=timetable.next_after(after)) if stands_for_more else planned


def _newest(
    timetable: Timetable, after: datetime, until: datetime, count: int
) -> "deque[datetime]":
    """Return the newest slots of a span, without walking over all of a long one."""
    look = _SHORTEST_LOOK
    while True:
        start = max(after, until - look) if until - after > look else after
        newest = deque(between(timetable, start, until), maxlen=count)
        if len(newest) == count or start <= after:
            return newest
        look *= 4
