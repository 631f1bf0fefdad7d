"""
At which times a schedule fires: crontab, interval, event of the sun, or once.

Pure: no tables, no clock. The invariant: a timetable is a set of moments, the same for whoever
asks and whenever, so two beats that count from different moments count the same slots. Crontabs
are parsed by Celery and events of the sun are reckoned by its library, but neither counts slots:
theirs depend on the last run.

Where a zone changes its clocks: a wall time that a change leaves out fires once, at the end of
the gap; one that comes twice fires the first time only. A crontab whose hour is `*` or `*/n`
follows real time instead: what is left out is left out, what comes twice fires twice.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cached_property
from itertools import islice
from typing import Any, Final, Protocol, Self

from celery.exceptions import ImproperlyConfigured
from celery.schedules import ParseException
from celery.schedules import crontab as celery_crontab
from celery.schedules import solar as _celery_solar
from cron_descriptor import (
    FormatException,
    MissingFieldException,
    Options,
    WrongArgumentException,
    get_description,
)

#: Celery's stubs list the events one by one; here any text may come, and a wrong one raises.
celery_solar: Any = _celery_solar

#: Intervals without a start are counted from here.
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: Years without a match after which a crontab has none; the 29th of February that is a Monday
#: comes every 28 years, or 40 around 2100.
YEARS_AHEAD: Final = 50

#: Days in which an event of the sun is looked for; beyond the polar circles some last months.
DAYS_AHEAD: Final = 366

_INSTANT: Final = timedelta(microseconds=1)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)

#: The hour field of a crontab that follows real time.
_EVERY_HOUR: Final = re.compile(r"\*(/\d+)?")

#: Units of an interval, from the longest one.
UNITS: Final = (
    ("days", timedelta(days=1)),
    ("hours", timedelta(hours=1)),
    ("minutes", timedelta(minutes=1)),
    ("seconds", timedelta(seconds=1)),
    ("microseconds", timedelta(microseconds=1)),
)


class Timetable(Protocol):
    """A set of moments."""

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first moment after an aware one, in UTC; None where no other comes."""

    def words(self) -> str:
        """Say in plain language when it fires."""


def between(
    timetable: Timetable, after: datetime, until: datetime, limit: int | None = None
) -> Iterator[datetime]:
    """Yield the moments after the one bound and up to the other, in order, `limit` at most."""
    return islice(_between(timetable, after, until), limit)


def _between(timetable: Timetable, after: datetime, until: datetime) -> Iterator[datetime]:
    moment = timetable.next_after(after)
    while moment is not None and moment <= until:
        yield moment
        moment = timetable.next_after(moment)


@dataclass(frozen=True)
class Crontab:
    """
    The five fields of a crontab, in a time zone.

    Unlike in cron, a day has to fit both `day_of_month` and `day_of_week`: Celery's rule.

    Raises:
        ValueError: a field is malformed or out of range.
    """

    minute: str = "*"
    hour: str = "*"
    day_of_month: str = "*"
    month_of_year: str = "*"
    day_of_week: str = "*"
    tz: tzinfo = UTC

    def __post_init__(self) -> None:
        _ = self._parsed

    @classmethod
    def read(cls, text: str, tz: tzinfo = UTC) -> Self:
        """Read a text such as `*/5 * * * mon-fri`: minute, hour, day, month, day of the week."""
        fields = text.split()
        if len(fields) != len(FIELDS):
            msg = f"{text!r} has {len(fields)} fields"
            raise ValueError(msg)
        minute, hour, day, month, weekday = fields
        return cls(minute, hour, day, month, weekday, tz)

    @property
    def text(self) -> str:
        """The five fields in crontab's order, one space between them."""
        found = (getattr(self, name).replace(" ", "") for name in FIELDS)
        return " ".join(found)

    def next_after(self, moment: datetime) -> datetime | None:
        if _EVERY_HOUR.fullmatch(self.hour):
            return self._next_in_real_time(moment.astimezone(UTC))
        return self._next_by_wall_clock(moment.astimezone(UTC))

    def words(self) -> str:
        try:
            said = get_description(self.text, _in_english())
        except (FormatException, MissingFieldException, WrongArgumentException):
            said = self.text
        return f"{said} ({self.tz})"

    def _next_by_wall_clock(self, moment: datetime) -> datetime | None:
        """Walk over wall times; only those that come twice may lie behind the moment."""
        wall: datetime | None = _wall(moment, self.tz)
        while wall is not None:
            wall = self._next_wall(wall)
            instant = wall and _instant(wall, self.tz)
            if instant is not None and instant > moment:
                return instant
        return None

    def _next_in_real_time(self, moment: datetime) -> datetime | None:
        """Walk from change to change of the clocks; in between, walls are as far as instants."""
        offset = _offset(moment, self.tz)
        while True:
            wall = self._next_wall(moment.replace(tzinfo=None) + offset)
            if wall is None:
                return None
            instant = (wall - offset).replace(tzinfo=UTC)
            change = _next_change(self.tz, moment, instant, offset)
            if change is None:
                return instant
            # The change itself may be a slot, in the offset that begins with it.
            moment, offset = change - _INSTANT, _offset(change, self.tz)

    def _next_wall(self, wall: datetime) -> datetime | None:
        """Return the next wall time that fits, whatever the clocks do meanwhile."""
        day, later = wall.date(), self._later_that_day(wall)
        if later is not None and self._fits(day):
            return datetime.combine(day, later)
        next_day = self._next_day(day)
        if next_day is None:
            return None
        return datetime.combine(next_day, time(self._hours[0], self._minutes[0]))

    def _later_that_day(self, wall: datetime) -> time | None:
        index = bisect_right(self._minutes, wall.minute)
        if wall.hour in self._parsed.hour and index < len(self._minutes):
            return time(wall.hour, self._minutes[index])
        index = bisect_right(self._hours, wall.hour)
        return time(self._hours[index], self._minutes[0]) if index < len(self._hours) else None

    def _next_day(self, day: date) -> date | None:
        last = date(min(day.year + YEARS_AHEAD, date.max.year - 1), 12, 31)
        day += _DAY
        while day <= last:
            if day.month not in self._parsed.month_of_year:
                day = (day.replace(day=1) + 31 * _DAY).replace(day=1)
            elif self._fits(day):
                return day
            else:
                day += _DAY
        return None

    def _fits(self, day: date) -> bool:
        parsed = self._parsed
        return (
            day.month in parsed.month_of_year
            and day.day in parsed.day_of_month
            and day.isoweekday() % 7 in parsed.day_of_week
        )

    @cached_property
    def _parsed(self) -> Any:
        try:
            return celery_crontab(**{name: getattr(self, name) for name in FIELDS})
        except ParseException as error:
            msg = f"{self.text!r} is no crontab: {error}"
            raise ValueError(msg) from error

    @cached_property
    def _hours(self) -> list[int]:
        return sorted(self._parsed.hour)

    @cached_property
    def _minutes(self) -> list[int]:
        return sorted(self._parsed.minute)


#: The fields of a crontab in the order of its text.
FIELDS: Final = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


@dataclass(frozen=True)
class Interval:
    """
    Every so often, counted from an anchor in real time, before and after it.

    Raises:
        ValueError: it is not longer than zero.
    """

    every: timedelta
    anchor: datetime = EPOCH

    def __post_init__(self) -> None:
        if self.every <= timedelta(0):
            msg = f"an interval of {self.every} is not longer than zero"
            raise ValueError(msg)

    def next_after(self, moment: datetime) -> datetime | None:
        # Aware differences within one zone ignore its changes, hence UTC.
        anchor = self.anchor.astimezone(UTC)
        passed = (moment.astimezone(UTC) - anchor) // self.every
        return anchor + (passed + 1) * self.every

    def words(self) -> str:
        count, unit = in_units(self.every)
        return f"Every {unit[:-1]}" if count == 1 else f"Every {count} {unit}"


def in_units(span: timedelta) -> tuple[int, str]:
    """Return a span as a whole number of the longest unit that fits, such as `(90, "minutes")`."""
    unit, length = next((unit, length) for unit, length in UNITS if not span % length)
    return span // length, unit


@dataclass(frozen=True)
class Solar:
    """
    An event of the sun at a place, cut to the second; needs the package `ephem`.

    Raises:
        ValueError: no such event or no such place, or `ephem` is not installed.
    """

    event: str
    latitude: float
    longitude: float
    _sky: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            sky = celery_solar(self.event, self.latitude, self.longitude)
        except ImproperlyConfigured as error:
            msg = "events of the sun need a library: pip install 'celery[solar]'"
            raise ValueError(msg) from error
        object.__setattr__(self, "_sky", sky)

    def next_after(self, moment: datetime) -> datetime | None:
        today = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        for days in range(DAYS_AHEAD):
            for event in self._events(today + days * _DAY):
                if event > moment:
                    return event
        return None

    def words(self) -> str:
        return f"{self.event.replace('_', ' ').capitalize()} at {self.latitude}, {self.longitude}"

    def _events(self, day: datetime) -> Iterator[datetime]:
        """
        Yield the events of one day in UTC, always reckoned from its midnight.

        The library approaches an event from where it starts, so another start finds another
        fraction of a second.
        """
        sky, end = self._sky, day + _DAY
        options = {} if self.event == "solar_noon" else {"use_center": sky.use_center}
        start = sky.ephem.Date(day)
        while True:
            try:
                found = getattr(sky.cal, sky.method)(sky.ephem.Sun(), start=start, **options)
            except sky.ephem.CircumpolarError:
                return
            event = found.datetime().replace(microsecond=0, tzinfo=UTC)
            if event >= end:
                return
            yield event
            start = sky.ephem.Date(event + timedelta(minutes=1))


@dataclass(frozen=True)
class Clocked:
    """Once, at a moment."""

    at: datetime

    def next_after(self, moment: datetime) -> datetime | None:
        return self.at.astimezone(UTC) if self.at > moment else None

    def words(self) -> str:
        return f"Once, at {self.at.isoformat(' ', 'seconds')}"


@dataclass(frozen=True)
class Bounded:
    """The moments of a timetable from one time on and before another one; either may be open."""

    timetable: Timetable
    since: datetime | None = None
    until: datetime | None = None

    def next_after(self, moment: datetime) -> datetime | None:
        if self.since is not None and moment < self.since:
            moment = self.since - _INSTANT
        found = self.timetable.next_after(moment)
        return None if found is None or self._is_over(found) else found

    def words(self) -> str:
        parts = [self.timetable.words()]
        if self.since is not None:
            parts.append(f"from {self.since.isoformat(' ', 'seconds')}")
        if self.until is not None:
            parts.append(f"until {self.until.isoformat(' ', 'seconds')}")
        return ", ".join(parts)

    def _is_over(self, moment: datetime) -> bool:
        return self.until is not None and moment >= self.until


def _in_english() -> Options:
    options = Options()
    options.locale_code = "en_US"
    options.use_24hour_time_format = True
    return options


def _wall(instant: datetime, tz: tzinfo) -> datetime:
    """Return what a clock in the zone shows, without the zone."""
    return instant.astimezone(tz).replace(tzinfo=None)


def _offset(instant: datetime, tz: tzinfo) -> timedelta:
    return instant.astimezone(tz).utcoffset() or timedelta(0)


def _instant(wall: datetime, tz: tzinfo) -> datetime:
    """Return when a wall time first comes, or the end of the gap that leaves it out."""
    first = wall.replace(tzinfo=tz).astimezone(UTC)
    if _wall(first, tz) == wall:
        return first
    # In a gap, the offset before it (fold=0) leads behind the change, the other one before it.
    before = wall.replace(tzinfo=tz, fold=1).astimezone(UTC)
    return _next_change(tz, before, first, _offset(before, tz)) or first


def _next_change(
    tz: tzinfo, after: datetime, until: datetime, offset: timedelta
) -> datetime | None:
    """Return when the zone leaves an offset that it has after a moment, up to another one."""
    while after < until:
        seen = min(after + _DAY, until)
        if _offset(seen, tz) != offset:
            return _change_between(tz, after, seen, offset)
        after = seen
    return None


def _change_between(tz: tzinfo, after: datetime, seen: datetime, offset: timedelta) -> datetime:
    """Halve the span until it holds one whole second: clocks change on whole seconds."""
    while seen - after > _SECOND:
        middle = after + (seen - after) / 2
        if _offset(middle, tz) == offset:
            after = middle
        else:
            seen = middle
    return seen.replace(microsecond=0)
