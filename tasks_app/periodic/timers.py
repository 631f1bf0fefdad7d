"""
Timers: which slot of each entry comes next, and when it is decided.

A timer is moved by guarded UPDATEs alone: each names the slot that it leaves, so of two processes
one moves it. Where an entry's counting begins is decided here: at its last run under plain
django-celery-beat, at the moment it is switched on, or at the moment its timetable changes.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from tasks_app.clock import DatabaseNow
from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Timer
from tasks_app.periodic.entries import hash_of, is_readable, timetable_of
from tasks_app.periodic.policies import due_at

#: In the place of a hash: the entry is switched off, its slots pass undecided.
OFF = "off"

#: How often a slot that waits for the one before it is looked at.
RECHECK = timedelta(seconds=2)

#: The shortest wait of a timer whose slot is not decided although it was due.
SOON = timedelta(seconds=1)

#: Rows per statement.
BATCH = 500


def now() -> datetime:
    """Return the time of the database's clock."""
    moment: datetime = (
        Timer.objects.order_by().annotate(is_at=DatabaseNow()).values_list("is_at", flat=True)[0]
    )
    return moment


def due(limit: int) -> list[Any]:
    """Return timers that are due, the longest due first; each knows the time as `is_at`."""
    moment = DatabaseNow()
    rows = Timer.objects.filter(due_at__lte=moment).order_by("due_at").annotate(is_at=moment)
    return list(rows[:limit])


def wait() -> float | None:
    """Return the seconds until the next timer is due; None: none will be."""
    rows = Timer.objects.filter(due_at__isnull=False).order_by("due_at")
    row: Any = rows.annotate(is_at=DatabaseNow()).values_list("due_at", "is_at").first()
    if row is None:
        return None
    due, is_at = row
    return max(float((due - is_at).total_seconds()), 0.0)


def attune_all(entries: Iterable[Any]) -> None:
    """
    Bring the timers in line with the entries: new, changed, switched on or off, gone.

    Reads every timer; writes those that differ. An entry that cannot be read is told, and counted
    from then on when it can.
    """
    timers = {timer.pk: timer for timer in Timer.objects.all()}
    listed = list(entries)
    _make([entry for entry in listed if entry.pk not in timers], timers)
    for entry in listed:
        timer = timers[entry.pk]
        if timer.name != entry.name or is_stale(timer, entry):
            _attune(timer, entry)
    forget(sorted(timers.keys() - {entry.pk for entry in listed}))


def forget(entry_ids: Sequence[int]) -> None:
    """Delete the timers of entries that are gone; their slots stay."""
    for start in range(0, len(entry_ids), BATCH):
        Timer.objects.filter(pk__in=entry_ids[start : start + BATCH]).delete()


def fresh(timer: Timer) -> Timer:
    """Return a timer as it stands; one whose transaction was rolled back may show what is not."""
    return Timer.objects.get(pk=timer.pk)


def is_stale(timer: Timer, entry: Any) -> bool:
    """Tell whether an entry says otherwise than when its timer was set."""
    if not entry.enabled:
        return timer.timetable_hash != OFF
    try:
        return timer.timetable_hash != hash_of(entry)
    except ConfigurationError:
        return True


def attune(entry: Any) -> Timer:
    """Bring one entry's timer in line with it, and return it."""
    timers = {timer.pk: timer for timer in Timer.objects.filter(pk=entry.pk)}
    _make([entry] if not timers else [], timers)
    _attune(timers[entry.pk], entry)
    return timers[entry.pk]


def move_on(timer: Timer, slot_at: datetime, next_at: datetime | None, **values: Any) -> bool:
    """
    Leave a slot that is being decided; False if somebody else has.

    Runs in the transaction that decides the slot; the guard is the slot that the timer showed.
    """
    waiting_at = values.get("waiting_at", timer.waiting_at)
    changed = {
        **values,
        "last_at": slot_at,
        "next_at": next_at,
        "due_at": when_due(timer, next_at, waiting_at=waiting_at),
    }
    return _update(timer, changed)


def put_off(timer: Timer, span: timedelta) -> bool:
    """Look at a timer again only after a span, although its slot is not decided."""
    return _update(timer, {"due_at": DatabaseNow() + span})


def wait_again(timer: Any) -> None:
    """Set when a timer is due anew, from its slot and its jitter: that one has changed."""
    wanted = due_at(timer.pk, timer.next_at, timer.jitter_seconds)
    _update(timer, {"due_at": max(wanted, timer.is_at + SOON)})


def when_due(timer: Timer, next_at: datetime | None, waiting_at: datetime | None) -> Any:
    """Return when a timer is to be looked at: for its next slot, or for one that waits."""
    if waiting_at is not None:
        return DatabaseNow() + RECHECK
    return next_at and due_at(timer.pk, next_at, timer.jitter_seconds)


def _update(timer: Timer, values: dict[str, Any]) -> bool:
    rows = Timer.objects.filter(
        pk=timer.pk, next_at=timer.next_at, timetable_hash=timer.timetable_hash
    )
    if not rows.update(**values):
        return False
    for name, value in values.items():
        setattr(timer, name, value)
    return True


def _make(entries: Sequence[Any], timers: dict[Any, Timer]) -> None:
    for start in range(0, len(entries), BATCH):
        some = entries[start : start + BATCH]
        rows = [Timer(entry_id=entry.pk, name=entry.name) for entry in some]
        Timer.objects.bulk_create(rows, ignore_conflicts=True)
        timers.update(Timer.objects.in_bulk([entry.pk for entry in some]))


def _attune(timer: Timer, entry: Any) -> None:
    if timer.name != entry.name:
        Timer.objects.filter(pk=timer.pk).update(name=entry.name)
    wanted = hash_of(entry) if entry.enabled and is_readable(entry) else OFF
    if timer.timetable_hash == wanted:
        return
    if wanted == OFF:
        _update(timer, {"next_at": None, "due_at": None, "timetable_hash": OFF})
        return
    next_at = timetable_of(entry).next_after(_beginning(timer, entry))
    due = when_due(timer, next_at, timer.waiting_at)
    _update(timer, {"next_at": next_at, "due_at": due, "timetable_hash": wanted})


def _beginning(timer: Timer, entry: Any) -> datetime:
    """Return the moment after which an entry's slots are counted."""
    if timer.timetable_hash:
        return now()
    counted: datetime | None = timer.last_at or entry.last_run_at or entry.date_changed
    return counted or now()
