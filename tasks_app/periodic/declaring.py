"""
`@periodic(…)`: code says when a task runs by itself.

A declaration is only noted here, when its module is imported; `sync.py` makes rows of it. Whatever
is wrong with it raises at that moment, where the declaration stands. Names of tasks are read later:
Celery's proxies know theirs only once there is an app.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import FunctionType
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tasks_app.arguments import encode_arguments
from tasks_app.conf import conf
from tasks_app.durations import as_timedelta
from tasks_app.exceptions import ConfigurationError, InvalidArgument
from tasks_app.periodic.policies import AtMost, Missed, Overlap
from tasks_app.periodic.timetables import Clocked, Crontab, Interval, Solar, Timetable, in_units
from tasks_app.suggestions import did_you_mean

T = TypeVar("T")

#: Characters of an entry's name at most: the width of django-celery-beat's column.
LONGEST_NAME: Final = 200

#: Shortest interval: beat looks once a second.
SHORTEST_INTERVAL: Final = timedelta(seconds=1)

#: Units of an interval at most: the width of django-celery-beat's column.
MOST_UNITS: Final = 2**31 - 1

#: What the first argument may be.
FORMS: Final = (
    "Pass a crontab such as '*/5 * * * *', a timedelta or seconds, solar('sunrise', 52.5, 13.4), "
    "or an aware datetime."
)

#: What a crontab is made of.
FIVE_FIELDS: Final = "A crontab has five fields: minute, hour, day, month, day of the week."

#: What `@periodic` accepts as its first argument.
When = str | float | timedelta | Solar | datetime


@dataclass(frozen=True, slots=True)
class Declared:
    """One declaration, checked."""

    task: Any
    timetable: Timetable
    #: Name of the zone of a crontab; None: Celery's.
    zone: str | None
    missed: AtMost
    overlap: Overlap
    jitter: float
    args_json: str
    kwargs_json: str
    given_name: str | None
    is_enabled: bool

    @property
    def name(self) -> str:
        """By which the entry is known; its task's name unless one was given."""
        return self.given_name or str(self.task.name)


#: Every declaration of this process, in the order of imports.
declarations: list[Declared] = []


def periodic(  # noqa: PLR0913 - what a schedule has
    when: When,
    *,
    tz: str | ZoneInfo | None = None,
    missed: str | Missed | AtMost = Missed.LATEST,
    overlap: str | Overlap = Overlap.ALLOW,
    jitter: float | timedelta = 0,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
    enabled: bool = True,
) -> Callable[[T], T]:
    """
    Let a task run by itself: `@periodic("*/5 * * * *")` above `@task`, or around a task.

    A task may have several, each but one with a name.

    Args:
        when: A crontab's five fields, an interval, `solar(…)`, or an aware datetime for once.
        tz: Time zone of a crontab; Celery's unless given.
        missed: What becomes of slots that pass while no beat runs: `skip`, `latest` or `all`;
            `Missed.all(max=10)` makes up the newest ten.
        overlap: What becomes of a slot while the last run goes on: `allow`, `skip`, `queue_one`.
        jitter: Slots are put off by up to so long, each by its own part of it.
        args: What the task is called with.
        kwargs: The same, by name.
        name: Of the entry; the task's name unless given. It identifies the entry for good.
        enabled: False declares it switched off.

    Raises:
        ConfigurationError: something of it is wrong; the message says what, where and the remedy.
    """
    timetable, zone = _timetable(when, tz)
    args_json, kwargs_json = _arguments(when, args, kwargs or {})
    options: dict[str, Any] = {
        "timetable": timetable,
        "zone": zone,
        "missed": _missed(missed),
        "overlap": _member(Overlap, "overlap", overlap),
        "jitter": _jitter(jitter),
        "args_json": args_json,
        "kwargs_json": kwargs_json,
        "given_name": _name(name),
        "is_enabled": _switch(enabled),
    }

    def declare(task: T) -> T:
        _refuse_what_is_no_task(task, when)
        _refuse_twice(task, name)
        declarations.append(Declared(task=task, **options))
        return task

    return declare


def every(
    *,
    weeks: float = 0,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
    **options: Any,
) -> Callable[[T], T]:
    """Do what `periodic` does with an interval: `@every(minutes=5, missed="skip")`."""
    span = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    return periodic(span, **options)


def solar(event: str, latitude: float, longitude: float) -> Solar:
    """
    Return an event of the sun at a place, such as `solar("sunrise", 52.5, 13.4)`.

    Raises:
        ConfigurationError: there is no such event or place, or `ephem` is not installed.
    """
    try:
        return Solar(event, latitude, longitude)
    except (ValueError, TypeError) as error:
        msg = f"solar({event!r}, {latitude!r}, {longitude!r}): {error}"
        raise ConfigurationError(msg) from error


def declared_by_name() -> dict[str, Declared]:
    """
    Return every declaration by the name of its entry.

    Raises:
        ConfigurationError: two have one name, or a name is too long.
    """
    found: dict[str, Declared] = {}
    for declared in declarations:
        name = _name(declared.name)
        if found.setdefault(declared.name, declared) is not declared:
            msg = f"Two periodic jobs are named {name!r}: give one of them another name=…"
            raise ConfigurationError(msg)
    return found


def schedule_of(declared: Declared, celery_zone: str) -> dict[str, Any]:
    """Return a declared schedule in the form of `entries.schedule_of`."""
    timetable = declared.timetable
    if isinstance(timetable, Crontab):
        return {"crontab": [*timetable.text.split(), declared.zone or celery_zone]}
    if isinstance(timetable, Interval):
        return {"interval": list(in_units(timetable.every))}
    if isinstance(timetable, Solar):
        return {"solar": [timetable.event, timetable.latitude, timetable.longitude]}
    assert isinstance(timetable, Clocked)  # noqa: S101 - the last of four
    return {"clocked": timetable.at.astimezone(UTC).isoformat()}


def _timetable(when: Any, tz: Any) -> tuple[Timetable, str | None]:
    if isinstance(when, str):
        zone = None if tz is None else _zone(when, tz)
        return _crontab(when, zone), None if zone is None else zone.key
    if tz is not None:
        msg = f"periodic({when!r}, tz={tz!r}): only a crontab has a time zone; leave tz out."
        raise ConfigurationError(msg)
    if isinstance(when, Solar):
        # As many digits as django-celery-beat's columns keep.
        return Solar(when.event, round(when.latitude, 6), round(when.longitude, 6)), None
    if isinstance(when, datetime):
        return _clocked(when), None
    return _interval(when), None


def _crontab(text: str, zone: ZoneInfo | None) -> Crontab:
    try:
        return Crontab.read(text, UTC if zone is None else zone)
    except ValueError as error:
        msg = f"periodic({text!r}): {error}. {FIVE_FIELDS}"
        raise ConfigurationError(msg) from error


def _zone(when: str, tz: Any) -> ZoneInfo:
    try:
        return tz if isinstance(tz, ZoneInfo) else ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        msg = f"periodic({when!r}, tz={tz!r}): no such time zone; pass one as 'Europe/Berlin'."
        raise ConfigurationError(msg) from error


def _clocked(when: datetime) -> Clocked:
    if when.utcoffset() is None:
        msg = f"periodic({when!r}): a time without a zone; pass it with tzinfo=."
        raise ConfigurationError(msg)
    return Clocked(when)


def _interval(when: Any) -> Interval:
    try:
        span = as_timedelta(when, "an interval")
    except (TypeError, ValueError) as error:
        msg = f"periodic({when!r}): {error} {FORMS}"
        raise ConfigurationError(msg) from error
    if span < SHORTEST_INTERVAL:
        msg = f"periodic({when!r}): shorter than a second, and beat looks once a second."
        raise ConfigurationError(msg)
    if in_units(span)[0] > MOST_UNITS:
        msg = f"periodic({when!r}): too long for so fine a unit; pass whole seconds."
        raise ConfigurationError(msg)
    return Interval(span)


def _missed(value: Any) -> AtMost:
    rule = value if isinstance(value, AtMost) else AtMost(_member(Missed, "missed", value))
    if rule.max is not None and (type(rule.max) is not int or rule.max < 1):
        msg = f"missed=Missed.all(max={rule.max!r}): pass a whole number of at least 1, or none."
        raise ConfigurationError(msg)
    return rule


def _member(kind: Any, option: str, value: Any) -> Any:
    try:
        return kind(value)
    except ValueError as error:
        msg = f"{option}={value!r}: no such policy.{did_you_mean(str(value), map(str, kind))}"
        raise ConfigurationError(msg) from error


def _jitter(value: Any) -> float:
    try:
        return as_timedelta(value, "jitter").total_seconds()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from error


def _arguments(when: Any, args: Any, kwargs: Any) -> tuple[str, str]:
    try:
        return encode_arguments(args, kwargs, conf.MAX_ARGUMENT_BYTES)
    except InvalidArgument as error:
        msg = f"periodic({when!r}): {error}"
        raise ConfigurationError(msg) from error


def _name(value: Any) -> str | None:
    is_text = isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()
    if value is None or is_text:
        return value  # type: ignore[no-any-return]
    msg = f"name={value!r}: pass name= as a text of 1 to {LONGEST_NAME} printable characters."
    raise ConfigurationError(msg)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        msg = f"enabled={value!r}: pass True or False."
        raise ConfigurationError(msg)
    return value


def _refuse_what_is_no_task(task: Any, when: Any) -> None:
    # By its type: to ask a proxy of Celery anything would make an app before the project does.
    if issubclass(type(task), FunctionType | type):
        msg = (
            f"periodic({when!r}) stands over {task.__qualname__}, which is no task: "
            "put @task below @periodic."
        )
        raise ConfigurationError(msg)


def _refuse_twice(task: Any, name: str | None) -> None:
    for declared in declarations:
        if declared.given_name == name and (name is not None or declared.task is task):
            what = "without a name" if name is None else f"under the name {name!r}"
            msg = f"Two periodic jobs stand {what}: give one of them another name=…"
            raise ConfigurationError(msg)
