"""
Entries of django-celery-beat, read: when a `PeriodicTask` fires, and what it calls.

Nothing is written here. The invariant: an entry that cannot be read is told in the log, once for
each reason, and keeps no other from firing; unlike upstream it is not switched off either, so it
fires again as soon as somebody mends it.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from celery import current_app
from django.conf import settings
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from tasks_app.arguments import decode
from tasks_app.exceptions import ConfigurationError
from tasks_app.periodic.timetables import (
    EPOCH,
    FIELDS,
    UNITS,
    Bounded,
    Clocked,
    Crontab,
    Interval,
    Solar,
    Timetable,
    in_units,
)

logger = logging.getLogger(__name__)

#: The tables of schedules, in the order in which upstream asks an entry for them.
KINDS: Final = ("interval", "crontab", "solar", "clocked")

#: A call that expires at the next slot is given at least so long.
SHORTEST_EXPIRY: Final = timedelta(seconds=60)

#: Why each unreadable entry was told of, by primary key; told again when that changes.
_told: dict[int, str] = {}


@dataclass(frozen=True, slots=True)
class EntryCall:
    """What an entry calls, and how."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    headers: dict[str, Any]
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    priority: int | None = None
    #: When a call that nobody started is given up; None: never.
    expires: datetime | None = None
    #: The entry says nothing of that itself: it is the next slot. Slots that are made up, waited
    #: for or asked for by hand need not mind it.
    expires_by_next_slot: bool = False
    #: Only one slot fires, then the entry is switched off.
    one_off: bool = False
    #: No slot before it fires.
    start_time: datetime | None = None


def enabled() -> Iterator[PeriodicTask]:
    """
    Yield the entries that are switched on and can be read, in one statement.

    The others are told in the log, with what is wrong and what to do.
    """
    for entry in PeriodicTask.objects.filter(enabled=True).select_related(*KINDS):
        if is_readable(entry):
            yield entry


def is_readable(entry: PeriodicTask) -> bool:
    """Tell whether an entry's timetable and call can be read; one that cannot is logged."""
    try:
        timetable_of(entry)
        _texts_of(entry)
    except ConfigurationError as error:
        if _told.get(entry.pk) != str(error):
            _told[entry.pk] = str(error)
            logger.warning("%s", error)
        return False
    _told.pop(entry.pk, None)
    return True


def timetable_of(entry: PeriodicTask) -> Timetable:
    """
    Return when an entry fires, from its start and until it expires.

    Raises:
        ConfigurationError: it has no schedule, or one that cannot be read.
    """
    kind, schedule = _schedule_of(entry)
    since, until = _aware(entry.start_time), _aware(entry.expires)
    try:
        timetable = _READERS[kind](schedule, since)
    except (ValueError, TypeError, OverflowError) as error:
        raise _broken(entry, f"its {kind} says {error}", "Correct the schedule.") from error
    return timetable if since is None and until is None else Bounded(timetable, since, until)


def hash_of(entry: PeriodicTask) -> str:
    """
    Hash what decides when an entry fires; its name, call and policies have no part in it.

    Raises:
        ConfigurationError: it has no schedule.
    """
    bounds = [_iso(_aware(moment)) for moment in (entry.start_time, entry.expires)]
    text = json.dumps([schedule_of(entry), *bounds], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def schedule_of(entry: PeriodicTask) -> dict[str, Any]:
    """
    Return an entry's schedule as plain JSON, such as `{"interval": [5, "minutes"]}`.

    Schedules that fire at the same times by the same words are equal: 60 seconds are a minute.

    Raises:
        ConfigurationError: it has no schedule.
    """
    kind, schedule = _schedule_of(entry)
    return {kind: _PLAIN[kind](schedule)}


def call_of(entry: PeriodicTask, decided_at: datetime | None = None) -> EntryCall:
    """
    Return what an entry calls when a slot is decided at a moment, now unless given.

    It expires when the entry does, or its `expire_seconds` later, or else at the next slot, but
    not within a minute.

    Raises:
        ConfigurationError: arguments or headers are no JSON of the right form, or the schedule
            cannot be read.
    """
    args, kwargs, headers = _texts_of(entry)
    decided_at = decided_at or datetime.now(UTC)
    own = _own_expiry(entry, decided_at)
    return EntryCall(
        task=entry.task,
        args=args,
        kwargs=kwargs,
        headers=headers,
        queue=entry.queue or None,
        exchange=entry.exchange or None,
        routing_key=entry.routing_key or None,
        priority=entry.priority,
        expires=own or _next_slot(entry, decided_at),
        expires_by_next_slot=own is None,
        one_off=entry.one_off,
        start_time=_aware(entry.start_time),
    )


def plain_json(text: str | None, empty: Any) -> Any:
    """Return what a text of JSON says without reading types into it; the text, where it is none."""
    try:
        return json.loads(text or "null") or empty
    except ValueError:
        return text


def _schedule_of(entry: PeriodicTask) -> tuple[str, Any]:
    for kind in KINDS:
        schedule = getattr(entry, kind) if getattr(entry, f"{kind}_id") else None
        if schedule is not None:
            return kind, schedule
    raise _broken(entry, "its schedule was removed", "Choose another one, or delete the entry.")


def _texts_of(entry: PeriodicTask) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    return (
        _decoded(entry, "args", list),
        _decoded(entry, "kwargs", dict),
        _decoded(entry, "headers", dict),
    )


def _decoded(entry: PeriodicTask, field: str, form: type) -> Any:
    text = getattr(entry, field)
    try:
        found = decode(text) if text and text.strip() else form()
    except (ValueError, TypeError) as error:
        raise _broken(entry, f"its {field} are no JSON", f"Correct {field}.") from error
    if not isinstance(found, form):
        wanted = "a list: [1, 2]" if form is list else 'an object: {"name": "value"}'
        raise _broken(entry, f"its {field} are JSON of another form", f"Make {field} {wanted}.")
    return found


def _broken(entry: PeriodicTask, why: str, remedy: str) -> ConfigurationError:
    msg = f"The periodic task {entry.name!r} does not fire: {why}. {remedy}"
    return ConfigurationError(msg)


def _own_expiry(entry: PeriodicTask, decided_at: datetime) -> datetime | None:
    if entry.expires is not None:
        return _aware(entry.expires)
    if entry.expire_seconds is not None:
        return decided_at + timedelta(seconds=entry.expire_seconds)
    return None


def _next_slot(entry: PeriodicTask, decided_at: datetime) -> datetime | None:
    following = timetable_of(entry).next_after(decided_at)
    return following and max(following, decided_at + SHORTEST_EXPIRY)


def _aware(moment: datetime | None) -> datetime | None:
    """Give a time of a project without time zones the zone that it means."""
    if moment is None or timezone.is_aware(moment):
        return moment
    return timezone.make_aware(moment, timezone.get_default_timezone())


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _span(schedule: Any) -> timedelta:
    return int(schedule.every) * dict(UNITS)[schedule.period]


#: Entries share schedules, and each would be parsed anew.
_crontab = lru_cache(maxsize=4096)(Crontab.read)
_solar = lru_cache(maxsize=256)(Solar)


def _read_crontab(schedule: Any, since: datetime | None) -> Timetable:
    is_aware = getattr(settings, "DJANGO_CELERY_BEAT_TZ_AWARE", True)
    tz = schedule.timezone if is_aware else current_app.timezone
    return _crontab(" ".join(_crontab_fields(schedule)), tz)


def _read_interval(schedule: Any, since: datetime | None) -> Timetable:
    if schedule.period not in dict(UNITS):
        msg = f"a period of {schedule.period!r}"
        raise ValueError(msg)
    return Interval(_span(schedule), since or EPOCH)


def _read_solar(schedule: Any, since: datetime | None) -> Timetable:
    return _solar(schedule.event, float(schedule.latitude), float(schedule.longitude))


def _read_clocked(schedule: Any, since: datetime | None) -> Timetable:
    at = _aware(schedule.clocked_time)
    if at is None:
        msg = "no time"
        raise ValueError(msg)
    return Clocked(at)


_READERS: Final[Mapping[str, Callable[[Any, datetime | None], Timetable]]] = {
    "interval": _read_interval,
    "crontab": _read_crontab,
    "solar": _read_solar,
    "clocked": _read_clocked,
}


def _plain_interval(schedule: Any) -> Any:
    known = schedule.period in dict(UNITS) and schedule.every
    return list(in_units(_span(schedule))) if known else [schedule.every, schedule.period]


def _plain_crontab(schedule: Any) -> Any:
    return [*_crontab_fields(schedule), str(schedule.timezone)]


def _crontab_fields(schedule: Any) -> list[str]:
    return [getattr(schedule, name).replace(" ", "") for name in FIELDS]


_PLAIN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "interval": _plain_interval,
    "crontab": _plain_crontab,
    "solar": lambda it: [it.event, float(it.latitude), float(it.longitude)],
    "clocked": lambda it: _iso(_aware(it.clocked_time)),
}
