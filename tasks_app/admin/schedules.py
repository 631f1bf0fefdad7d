"""
What the console shows of periodic jobs: entries, their timers, and their newest slots.

What is read is bounded by the page: so many entries, and so many slots of each, which the index of
entry and time leads to. Outcomes are read by their ids alone.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Q, Subquery

from tasks_app import stock
from tasks_app.admin.slot_bars import SlotBars
from tasks_app.admin.slot_ranges import zone_of
from tasks_app.admin.texts import NOTHING, SIGNS, span
from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Outcome, Slot, Stock, Timer
from tasks_app.periodic import slots
from tasks_app.periodic.entries import call_of, timetable_of
from tasks_app.periodic.policies import LATE
from tasks_app.periodic.sync import changed_by_hand
from tasks_app.states import State

#: Slots of an entry that the page of all entries looks at.
RECENT = 14

#: What is read of a slot's outcome: none of what may be large or secret.
COLUMNS = ("id", "state", "started_at", "finished_at")

#: Decisions of a scheduler: how late they were says something.
PUNCTUAL = frozenset({"fired", "made_up", "queued"})

#: Decisions that enqueue nothing.
LEFT_OUT = frozenset({"missed", "overlapped"})

#: A decision, in words.
DECISIONS = {
    "fired": "fired",
    "made_up": "made up",
    "backfilled": "backfilled",
    "by_hand": "by hand",
    "queued": "queued",
    "missed": "missed",
    "overlapped": "left out: the one before still ran",
}

#: Policies, in words.
MISSED = {
    "skip": "are left out",
    "latest": "the latest one is made up",
    "all": "all are made up",
}
OVERLAPS = {
    "allow": "a slot runs beside the one before",
    "skip": "a slot is left out while the one before goes on",
    "queue_one": "one slot waits for the one before, later ones are left out",
}


@dataclass(frozen=True, slots=True)
class Decided:
    """A slot, and the outcome that it enqueued."""

    slot: Slot
    outcome: Outcome | None
    jitter: timedelta

    @property
    def words(self) -> str:
        return DECISIONS.get(self.slot.decision, self.slot.decision)

    @property
    def is_left_out(self) -> bool:
        return self.slot.decision in LEFT_OUT

    @property
    def state(self) -> str:
        """The state of its outcome; `pruned` where that is gone, "" where there never was one."""
        if self.outcome is not None:
            return self.outcome.state
        return "" if self.slot.outcome_id is None else "pruned"

    @property
    def sign(self) -> str:
        return SIGNS[State(self.outcome.state)] if self.outcome is not None else ""

    @property
    def kind(self) -> str:
        """What a bar of it is: the state of its outcome, or that it was left out."""
        return "missed" if self.is_left_out else self.state

    @property
    def late_by(self) -> timedelta | None:
        """How long after its time a scheduler decided it; None where that says nothing."""
        if self.slot.decision not in PUNCTUAL:
            return None
        return max(self.slot.decided_at - self.slot.slot_at, timedelta(0))

    @property
    def lateness(self) -> str:
        return NOTHING if self.late_by is None else span(self.late_by)

    @property
    def is_late(self) -> bool:
        return self.late_by is not None and self.late_by > LATE + self.jitter

    @property
    def lasted(self) -> float:
        """Seconds from the outcome's first start to its end; 0 where it has not both."""
        outcome = self.outcome
        if outcome is None or outcome.started_at is None or outcome.finished_at is None:
            return 0
        return (outcome.finished_at - outcome.started_at).total_seconds()


@dataclass
class Schedule:
    """
    An entry with what decides for it and what was decided.

    Attributes:
        entry: The `PeriodicTask` of django-celery-beat.
        timer: What this app knows of it; None before a scheduler has seen it.
        decided: Its newest slots, the newest first.
        counted_success: When one of its outcomes last succeeded, as counted for the metrics.
    """

    entry: Any
    timer: Timer | None
    decided: Sequence[Decided] = field(default_factory=list)
    counted_success: datetime | None = None

    @property
    def name(self) -> str:
        return str(self.entry.name)

    @property
    def is_declared(self) -> bool:
        return self.timer is not None and self.timer.code_name is not None

    @property
    def words(self) -> str:
        """When it is due, in plain language."""
        try:
            return timetable_of(self.entry).words()
        except ConfigurationError:
            return "never"

    @cached_property
    def fault(self) -> str:
        """Why it cannot fire; "" where it can."""
        try:
            call_of(self.entry)
        except ConfigurationError as error:
            return str(error)
        return ""

    @property
    def zone(self) -> str:
        return zone_of(self.entry)

    @property
    def changed(self) -> str:
        """What the admin says otherwise than code; whether it is switched on is told beside it."""
        if self.timer is None:
            return ""
        fields = changed_by_hand(self.entry, self.timer)
        return ", ".join(name for name in fields if name != "enabled")

    def upcoming(self, count: int) -> list[datetime]:
        """Return its next slots; none where it cannot fire, or is switched off."""
        return [] if self.fault else slots.upcoming(self.entry, count)

    @property
    def policies(self) -> list[tuple[str, str]]:
        """What becomes of slots that are missed or overlap, in words."""
        timer = self.timer
        if timer is None:
            return []
        missed = MISSED[timer.missed]
        if timer.missed == "all" and timer.missed_max is not None:
            missed = f"the newest {timer.missed_max} are made up"
        found = [("Missed slots", missed), ("Overlap", OVERLAPS[timer.overlap])]
        if timer.jitter_seconds:
            found.append(("Jitter", f"each slot is put off by up to {timer.jitter_seconds:g} s"))
        return found

    @property
    def bars(self) -> SlotBars:
        return SlotBars(list(reversed(self.decided)))

    @cached_property
    def _decisions(self) -> Counter[str]:
        return Counter(each.slot.decision for each in self.decided)

    @property
    def marks(self) -> list[tuple[str, int, str]]:
        """Return what is wrong with the newest slots: a kind, how many, and in words."""
        found = (
            ("missed", self._decisions["missed"], "missed"),
            ("overlapped", self._decisions["overlapped"], "overlapped"),
            ("made_up", self._decisions["made_up"], "made up"),
            ("late", sum(each.is_late for each in self.decided), "late"),
        )
        return [mark for mark in found if mark[1]]

    @property
    def succeeded_at(self) -> datetime | None:
        """When one of its outcomes last succeeded, as far as that is known."""
        ends = [
            each.outcome.finished_at
            for each in self.decided
            if each.outcome is not None
            and each.outcome.state == State.SUCCEEDED
            and each.outcome.finished_at is not None
        ]
        return max([*ends, *filter(None, [self.counted_success])], default=None)


def shown(entries: Iterable[Any]) -> list[Schedule]:
    """Return entries with their timers and newest slots: five statements, however many."""
    rows = list(entries)
    timers = _timers([row.pk for row in rows])
    decided = _newest(timers)
    succeeded = _successes()
    return [
        Schedule(row, timers.get(row.pk), decided.get(row.pk, []), succeeded.get(row.name))
        for row in rows
    ]


def one(entry: Any, slots: int) -> Schedule:
    """Return one entry with so many of its newest slots."""
    timer = Timer.objects.filter(pk=entry.pk).first()
    rows = list(Slot.objects.filter(entry_id=entry.pk).order_by("-slot_at")[:slots])
    jitter = timedelta(seconds=timer.jitter_seconds if timer is not None else 0)
    found = _with_outcomes(rows, defaultdict(timedelta, {entry.pk: jitter}))
    return Schedule(entry, timer, found, _successes().get(entry.name))


def _timers(ids: Sequence[int]) -> dict[int, Any]:
    """Return timers by their entries, each with the time from which on its newest slots are."""
    of_entry = Slot.objects.filter(entry_id=OuterRef("pk")).order_by("-slot_at")
    since = Subquery(of_entry.values("slot_at")[RECENT - 1 : RECENT])
    return {
        timer.pk: timer for timer in Timer.objects.filter(pk__in=ids).annotate(newest_since=since)
    }


def _newest(timers: dict[int, Any]) -> dict[int, list[Decided]]:
    """Return the newest slots of each entry."""
    wanted = Q()
    for pk, timer in timers.items():
        since = Q() if timer.newest_since is None else Q(slot_at__gte=timer.newest_since)
        wanted |= Q(entry_id=pk) & since
    rows = list(Slot.objects.filter(wanted).order_by("-slot_at")) if timers else []
    jitters = {pk: timedelta(seconds=timer.jitter_seconds) for pk, timer in timers.items()}
    found: dict[int, list[Decided]] = defaultdict(list)
    for each in _with_outcomes(rows, jitters):
        found[each.slot.entry_id].append(each)
    return found


def _with_outcomes(rows: Sequence[Slot], jitters: dict[int, timedelta]) -> list[Decided]:
    ids = [row.outcome_id for row in rows if row.outcome_id]
    outcomes: dict[UUID, Outcome] = Outcome.objects.only(*COLUMNS).in_bulk(ids)
    return [
        Decided(
            row, outcomes.get(row.outcome_id) if row.outcome_id else None, jitters[row.entry_id]
        )
        for row in rows
    ]


def _successes() -> dict[str, datetime]:
    """Return when each schedule last succeeded, by its name, as counted for the metrics."""
    row = Stock.objects.filter(pk=stock.ROW).first()
    if row is None or row.taken_at is None:
        return {}
    counts = stock.merged(json.loads(row.totals_json), json.loads(row.recent_json))
    last = counts.get("schedule_succeeded_at", {})
    return {name: datetime.fromtimestamp(at, UTC) for name, at in last.items()}
