"""
Slots: each scheduled time of an entry is decided once, and what it enqueues commits with it.

A slot is a row, unique on entry and time, inserted in the transaction that enqueues its outcome and
moves its timer on. A crash before that commit leaves nothing and the slot is decided again; one
after it leaves everything. No broker is needed: what is enqueued waits in its row.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import current_app
from django.db import IntegrityError, transaction
from django.db.models import F, Subquery
from django.utils import timezone

from tasks_app.broker import SCHEDULED_FOR
from tasks_app.calls import CallOptions
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.crash_points import crash_point
from tasks_app.declare import OutcomeTask, Using
from tasks_app.models import Outcome, Slot, Timer
from tasks_app.options import PRIORITIES
from tasks_app.periodic import timers
from tasks_app.periodic.entries import EntryCall, call_of, timetable_of
from tasks_app.periodic.forwarding import forward
from tasks_app.periodic.policies import Decision, Overlap, Planned
from tasks_app.periodic.timetables import between
from tasks_app.states import FINAL
from tasks_app.transience import pessimistic

logger = logging.getLogger(__name__)

#: Slots that one backfill may ask for.
MOST_BACKFILLED = 1_000

#: Decisions that enqueue something by themselves.
ENQUEUING = frozenset({Decision.FIRED, Decision.MADE_UP, Decision.BACKFILLED, Decision.BY_HAND})

#: Decisions of a scheduler that enqueue something, now or later.
SCHEDULED = frozenset({Decision.FIRED, Decision.MADE_UP, Decision.QUEUED})

#: Decisions that left a slot out, and that a backfill may take back.
LEFT_OUT = (Decision.MISSED, Decision.OVERLAPPED)

#: The shortest span that every database tells apart.
INSTANT = timedelta(microseconds=1)

#: After every slot.
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)

#: Width of the column that names who asked.
LONGEST_NAME = 255


#: Marks what beat has asked for; Celery's own beat sets it from 5.7 on.
BEAT_HEADER = "celery_beat_task"


@dataclass(frozen=True, slots=True)
class Firing:
    """What a slot is about to enqueue."""

    entry: Any
    call: EntryCall
    slot_at: datetime
    expires_at: datetime | None = None

    @property
    def key(self) -> str:
        """The slot's name: the idempotency key of a task that declares none."""
        return f"{self.entry.name}@{self.slot_at.isoformat()}"

    @property
    def marks(self) -> dict[str, Any]:
        """The headers by which beat's messages are known."""
        return {"periodic_task_name": self.entry.name, BEAT_HEADER: True}

    @property
    def headers(self) -> dict[str, Any]:
        """The entry's own headers, and the marks."""
        return {**self.call.headers, **self.marks}


Send = Callable[[Firing], Outcome]


def enqueue(firing: Firing) -> Outcome:
    """
    Enqueue what a slot asks for, in the caller's transaction.

    A task of this app is enqueued as itself, any other one by the task `tasks_app.forward`. The
    slot is the idempotency key, unless the task declares one of its own.
    """
    call = firing.call
    registered = current_app.tasks.get(call.task)
    if not isinstance(registered, OutcomeTask) or call.task.startswith("celery."):
        # Headers are the plain message's alone: monitors would take this outcome for its run.
        options = _options(firing, forward, firing.marks)
        return Using(forward, options).enqueue(
            call.task, list(call.args), dict(call.kwargs), _message(firing)
        )
    options = replace(
        _options(firing, registered, firing.headers),
        queue=call.queue,
        priority=_priority(call.priority),
    )
    return Using(registered, options).enqueue(*call.args, **call.kwargs)


def _options(firing: Firing, task: OutcomeTask[..., Any], headers: dict[str, Any]) -> CallOptions:
    return CallOptions(
        expires=firing.expires_at,
        idempotency_key=None if task.options.idempotency_key else firing.key,
        kept={"headers": headers, SCHEDULED_FOR: firing.slot_at.isoformat()},
    )


def _message(firing: Firing) -> dict[str, Any]:
    """Return what the message of a plain task is published with."""
    call = firing.call
    options = {
        "queue": call.queue,
        "exchange": call.exchange,
        "routing_key": call.routing_key,
        "priority": call.priority,
        "expires": firing.expires_at,
        "headers": {**firing.headers, SCHEDULED_FOR: firing.slot_at.isoformat()},
    }
    return {name: value for name, value in options.items() if value is not None}


def decide(timer: Timer, planned: Planned, entry: Any, send: Send = enqueue) -> Slot | None:
    """
    Decide one planned slot: its row, its outcome and its timer's next slot, in one transaction.

    Returns:
        The slot, or None where another process or somebody by hand had decided it.
    """
    try:
        with pessimistic(), transaction.atomic(using=conf.DATABASE):
            slot = _decide(timer, planned, entry, send)
            crash_point("slot.before_commit")
    except IntegrityError:
        if not Slot.objects.filter(entry_id=timer.pk, slot_at=planned.slot_at).exists():
            raise
        _leave(timers.fresh(timer), planned.slot_at, entry)
        return None
    crash_point("slot.after_commit")
    return slot


def _leave(timer: Timer, slot_at: datetime, entry: Any) -> None:
    """Move a timer on from a slot that was decided by hand, unless somebody has."""
    if timer.next_at is not None and timer.next_at <= slot_at:
        timers.move_on(timer, slot_at, _next_at(entry, slot_at))


def _decide(timer: Timer, planned: Planned, entry: Any, send: Send) -> Slot | None:
    decision = _with_overlap(timer, Decision(planned.decision))
    moved = {"waiting_at": planned.slot_at} if decision == Decision.QUEUED else {}
    is_last = entry.one_off and decision in SCHEDULED
    next_at = None if is_last else _next_at(entry, planned.slot_at)
    if not timers.move_on(timer, planned.slot_at, next_at, **moved):
        return None
    slot = Slot(entry_id=timer.pk, slot_at=planned.slot_at, name=entry.name, decision=decision)
    slot.save(force_insert=True, using=conf.DATABASE)
    if decision in ENQUEUING:
        _fire(slot, entry, send)
    return slot


def release(timer: Timer, entry: Any, send: Send = enqueue) -> Slot | None:
    """
    Enqueue the slot that waits for the one before it, once that has ended.

    Returns:
        The slot, or None while it waits on, or where another process has released it.
    """
    waiting_at = timer.waiting_at
    if waiting_at is None or is_busy(timer.pk):
        timers.put_off(timer, timers.RECHECK)
        return None
    with pessimistic(), transaction.atomic(using=conf.DATABASE):
        waiting = Timer.objects.filter(pk=timer.pk, waiting_at=waiting_at)
        due_at = timers.when_due(timer, timer.next_at, waiting_at=None)
        if not waiting.update(waiting_at=None, due_at=due_at):
            return None
        slot = Slot.objects.get(entry_id=timer.pk, slot_at=waiting_at)
        _fire(slot, entry, send)
    timer.waiting_at = None
    return slot


def is_busy(entry_id: int) -> bool:
    """Tell whether the outcome of an entry's last slot waits or runs."""
    rows = Slot.objects.filter(entry_id=entry_id, outcome_id__isnull=False).order_by("-slot_at")
    last = Outcome.objects.filter(pk=Subquery(rows.values("outcome_id")[:1]))
    return last.exclude(state__in=FINAL).exists()


def pause(entry: Any, by: Any = None) -> None:
    """Switch an entry off: from the commit on its slots pass undecided."""
    _switch(entry, by, is_on=False)


def resume(entry: Any, by: Any = None) -> None:
    """Switch an entry on: its slots are counted from now on, those of the pause are not missed."""
    _switch(entry, by, is_on=True)


def run_now(entry: Any, by: Any) -> Slot:
    """
    Run an entry at once, whatever its policies say: a slot of its own, at the present moment.

    Raises:
        InvalidArgument, ConfigurationError, TypeError: the entry's call is none; nothing is left.
    """
    timers.attune(entry)
    moment = timers.now()
    while True:
        slot = _by_hand(entry, moment, Decision.BY_HAND, by)
        if slot is not None:
            return slot
        moment += INSTANT


def backfill(entry: Any, since: datetime, until: datetime, by: Any) -> int:
    """
    Run an entry for each slot from `since` to `until` that has enqueued nothing so far.

    Each slot in a transaction of its own, the oldest first: cut short, it is simply asked for
    again. Slots that are still to come are left to their time.

    Returns:
        How many slots enqueued something.

    Raises:
        ValueError: the range holds more than `MOST_BACKFILLED` slots; nothing is enqueued.
    """
    timers.attune(entry)
    last = min(until, timers.now())
    wanted = list(between(timetable_of(entry), since - INSTANT, last, MOST_BACKFILLED + 1))
    if len(wanted) > MOST_BACKFILLED:
        msg = (
            f"{entry.name} has more than {MOST_BACKFILLED:,} slots between {since} and {until}: "
            "ask for a shorter range."
        )
        raise ValueError(msg)
    made = (_by_hand(entry, slot_at, Decision.BACKFILLED, by) for slot_at in wanted)
    return sum(slot is not None for slot in made)


def upcoming(entry: Any, count: int = 5) -> list[datetime]:
    """Return an entry's next slots; none while it is switched off."""
    if not entry.enabled:
        return []
    most = 1 if entry.one_off else count
    return list(between(timetable_of(entry), timezone.now(), LAST_MOMENT, most))


def _with_overlap(timer: Timer, decision: Decision) -> Decision:
    """Return what becomes of a due slot beside the outcome of the one before it."""
    if decision not in ENQUEUING or timer.overlap == Overlap.ALLOW:
        return decision
    if timer.waiting_at is not None:
        return Decision.OVERLAPPED
    if not is_busy(timer.pk):
        return decision
    return Decision.QUEUED if timer.overlap == Overlap.QUEUE_ONE else Decision.OVERLAPPED


def _next_at(entry: Any, slot_at: datetime) -> datetime | None:
    return timetable_of(entry).next_after(slot_at)


def _fire(slot: Slot, entry: Any, send: Send) -> None:
    """Enqueue a slot's outcome and note it, in the transaction that decides the slot."""
    call = call_of(entry, timers.now())
    may_expire = slot.decision == Decision.FIRED or not call.expires_by_next_slot
    firing = Firing(entry, call, slot.slot_at, call.expires if may_expire else None)
    slot.outcome_id = send(firing).pk
    Slot.objects.filter(pk=slot.pk).update(outcome_id=slot.outcome_id)
    _note_run(slot, entry)


def _note_run(slot: Slot, entry: Any) -> None:
    """Write what django-celery-beat's own pages show, and switch off what runs only once."""
    values: dict[str, Any] = {"last_run_at": DatabaseNow()}
    if entry.one_off and slot.decision in SCHEDULED:
        values = {"last_run_at": None, "enabled": False}
        Timer.objects.filter(pk=entry.pk).update(timetable_hash=timers.OFF)
    rows = type(entry).objects.filter(pk=entry.pk)
    rows.update(total_run_count=F("total_run_count") + 1, **values)


def _by_hand(entry: Any, slot_at: datetime, decision: Decision, by: Any) -> Slot | None:
    """Decide a slot that somebody asks for; None where it has enqueued something already."""
    asked_by = str(by or "")[:LONGEST_NAME]
    rows = Slot.objects.filter(entry_id=entry.pk, slot_at=slot_at)
    left_out = rows.filter(outcome_id__isnull=True, decision__in=LEFT_OUT)
    with pessimistic(), transaction.atomic(using=conf.DATABASE):
        # Written before anything is read, so that of two who ask one goes first.
        is_taken_back = left_out.update(decision=decision, asked_by=asked_by)
        slot = rows.get() if is_taken_back else _inserted(entry, slot_at, decision, asked_by)
        if slot is not None:
            _fire(slot, entry, enqueue)
    return slot


def _inserted(entry: Any, slot_at: datetime, decision: Decision, asked_by: str) -> Slot | None:
    slot = Slot(
        entry_id=entry.pk,
        slot_at=slot_at,
        name=entry.name,
        decision=decision,
        asked_by=asked_by,
    )
    try:
        with transaction.atomic(using=conf.DATABASE):
            slot.save(force_insert=True, using=conf.DATABASE)
    except IntegrityError:
        return None
    return slot


def _switch(entry: Any, by: Any, *, is_on: bool) -> None:
    entry.enabled = is_on
    if not is_on:
        entry.last_run_at = None
    entry.save(update_fields=["enabled", "last_run_at", "date_changed"])
    timers.attune(entry)
    logger.info("%s was %s by %s", entry.name, "resumed" if is_on else "paused", by or "nobody")


def _priority(given: int | None) -> int | None:
    """Return a schedule's priority as tasks have it: brokers' go further up."""
    return None if given is None else min(given, PRIORITIES[-1])
