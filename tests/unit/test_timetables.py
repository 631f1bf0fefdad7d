"""
Timetables: the same moments for whoever asks, and at changes of the clocks the rule as stated.

Crontabs are held against cronsim, a rebuilding of Debian's cron that shares no code with Celery's.
The days around each change are compared one by one and the rest in samples; all of two years with
`TASKS_TEST_TIMETABLES=whole`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.periodic.timetables import (
    EPOCH,
    Bounded,
    Clocked,
    Crontab,
    Interval,
    Solar,
    between,
)

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")

#: No changes; changes by an hour in the north and the south, by two hours, at midnight, where a
#: day begins at one; and Ramadan's. Not by half an hour: the other one then leaves out slots.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Antarctica/Troll",
    "America/Santiago",
    "Africa/Casablanca",
)

CRONTABS = (
    "* * * * *",
    "*/5 * * * *",
    "7-59/13 * * * *",
    "0 * * * *",
    "30 */2 * * *",
    "15 */6 * * *",
    "45 */1 * * mon-fri",
    "0 0 * * *",
    "30 0 * * *",
    "30 2 * * *",
    "0,15,30,45 1-3 * * *",
    "59 23 * * *",
    "5 4 * * sun",
    "0 9 * * 1-5",
    "0 22 * * 0,6",
    "30 1 1 * *",
    "0 12 28-31 * *",
    "15 2 29 2 *",
    "0 2 1-7 * */7",
    "10,20 3,15 */10 1-12/3 *",
)


def aware(*numbers: int, tz: tzinfo = BERLIN, fold: int = 0) -> datetime:
    return datetime(*numbers, tzinfo=tz, fold=fold)


def local(timetable: Crontab, after: datetime, count: int = 3) -> list[str]:
    """Return the next moments as a clock in the timetable's zone shows them."""
    found = between(timetable, after, END + 365 * DAY, count)
    return [f"{moment.astimezone(timetable.tz):%d %H:%M %z}" for moment in found]


def changes(zone: tzinfo) -> list[datetime]:
    """Return the days in UTC on which a zone changes its clocks."""
    days = [START + n * DAY for n in range((END - START).days)]
    return [
        day for day, following in pairwise(days) if offset(day, zone) != offset(following, zone)
    ]


def offset(moment: datetime, zone: tzinfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def spans(zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
    """Yield what is compared."""
    if os.environ.get("TASKS_TEST_TIMETABLES") == "whole":
        yield START, END
        return
    for day in changes(zone):
        yield day - timedelta(hours=3), day + DAY + timedelta(hours=9)
    for n in range(0, (END - START).days, 120):
        yield START + n * DAY, START + (n + 1) * DAY


def oracle(text: str, zone: tzinfo, after: datetime, until: datetime) -> list[datetime]:
    moments = (moment.astimezone(UTC) for moment in CronSim(text, after.astimezone(zone)))
    return list(takewhile(lambda moment: moment <= until, moments))


@pytest.mark.parametrize("name", ZONES)
def test_crontabs_agree_with_another_implementation(name):
    """Twenty crontabs over each change of the clocks in two years, and on days without one."""
    zone = ZoneInfo(name)
    for text in CRONTABS:
        timetable = Crontab.read(text, zone)
        for after, until in spans(zone):
            told = f"{text} in {name} after {after}"
            assert list(between(timetable, after, until)) == oracle(text, zone, after, until), told


def test_the_zones_change_their_clocks_as_often_as_expected():
    """So the comparison above looks at what it promises to."""
    assert [len(changes(ZoneInfo(name))) for name in ZONES] == [0, 4, 4, 4, 4, 4]


def test_a_wall_time_in_a_gap_fires_once_at_its_end():
    """At 02:00 the clocks go to 03:00; four times of that hour are one slot."""
    before = aware(2026, 3, 28, 12)
    expected = ["29 03:00 +0200", "30 02:30 +0200", "31 02:30 +0200"]
    assert local(Crontab.read("30 2 * * *", BERLIN), before) == expected
    expected = ["29 03:00 +0200", "30 02:00 +0200", "30 02:15 +0200"]
    assert local(Crontab.read("*/15 2 * * *", BERLIN), before) == expected
    expected = ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200"]
    assert local(Crontab.read("30 1-3 * * *", BERLIN), before) == expected


def test_a_wall_time_that_comes_twice_fires_the_first_time_only():
    """At 03:00 the clocks go back to 02:00."""
    nightly = Crontab.read("30 2 * * *", BERLIN)
    expected = ["25 02:30 +0200", "26 02:30 +0100", "27 02:30 +0100"]
    assert local(nightly, aware(2026, 10, 24, 12)) == expected
    assert local(nightly, aware(2026, 10, 25, 2, 10, fold=1), 1) == ["26 02:30 +0100"]
    expected = ["25 02:00 +0200", "25 02:20 +0200", "25 02:40 +0200", "26 02:00 +0100"]
    assert local(Crontab.read("*/20 2 * * *", BERLIN), aware(2026, 10, 24, 12), 4) == expected


def test_every_hour_follows_real_time():
    """No real hour is left out, none comes twice."""
    hourly = Crontab.read("0 * * * *", BERLIN)
    expected = ["29 01:00 +0100", "29 03:00 +0200", "29 04:00 +0200"]
    assert local(hourly, aware(2026, 3, 29, 0, 30)) == expected
    expected = ["25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100"]
    assert local(hourly, aware(2026, 10, 25, 1, 30)) == expected
    expected = ["25 02:15 +0200", "25 02:15 +0100", "25 04:15 +0100"]
    assert local(Crontab.read("15 */2 * * *", BERLIN), aware(2026, 10, 25, 1, 30)) == expected


def test_clocks_that_change_by_half_an_hour_are_no_exception():
    """On Lord Howe 02:00 becomes 02:30, and half a year later 01:30."""
    zone = ZoneInfo("Australia/Lord_Howe")
    gap, twice = aware(2026, 10, 4, 1, 20, tz=zone), aware(2026, 4, 5, 1, 20, tz=zone)
    expected = ["04 02:30 +1100", "05 02:15 +1100", "06 02:15 +1100"]
    assert local(Crontab.read("15 2 * * *", zone), gap) == expected
    expected = ["04 03:15 +1100", "04 04:15 +1100", "04 05:15 +1100"]
    assert local(Crontab.read("15 * * * *", zone), gap) == expected
    expected = ["05 01:45 +1100", "06 01:45 +1030", "07 01:45 +1030"]
    assert local(Crontab.read("45 1 * * *", zone), twice) == expected
    expected = ["05 01:45 +1100", "05 01:45 +1030", "05 02:45 +1030"]
    assert local(Crontab.read("45 * * * *", zone), twice) == expected
    assert local(Crontab.read("15 */6 * * *", zone), twice, 1) == ["05 06:15 +1030"]


def test_a_day_that_a_zone_left_out_is_a_gap():
    """Samoa went from the 29th to the 31st of December 2011."""
    apia = ZoneInfo("Pacific/Apia")
    expected = ["31 00:00 +1400", "31 12:00 +1400", "01 12:00 +1400"]
    after = aware(2011, 12, 29, 13, tz=apia)
    assert local(Crontab.read("0 12 * * *", apia), after) == expected


def test_the_29th_of_february_that_is_a_monday_comes_and_the_30th_does_not():
    rare = Crontab.read("0 0 29 2 mon", BERLIN).next_after(START)
    assert rare == aware(2044, 2, 29)
    assert Crontab.read("0 0 31 1 *", BERLIN).next_after(aware(2026, 1, 31)) == aware(2027, 1, 31)


@pytest.mark.parametrize(
    "text", ["61 * * * *", "* * *", "a * * * *", "0 0 30 2 *", "*/0 * * * *", "-1 * * * *"]
)
def test_a_malformed_crontab_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        Crontab.read(text)


def test_schedules_say_when_they_fire():
    said = [
        Crontab.read("*/5 * * * *", BERLIN).words(),
        Crontab.read("0 9 * * mon-fri").words(),
        Interval(timedelta(hours=1)).words(),
        Interval(timedelta(minutes=90)).words(),
        Clocked(aware(2026, 1, 1, 9)).words(),
        Solar("dawn_civil", 52.5, 13.4).words(),
        Bounded(Interval(DAY), since=START, until=END).words(),
    ]
    assert said == [
        "Every 5 minutes (Europe/Berlin)",
        "At 09:00, Monday through Friday (UTC)",
        "Every hour",
        "Every 90 minutes",
        "Once, at 2026-01-01 09:00:00+01:00",
        "Dawn civil at 52.5, 13.4",
        "Every day, from 2026-01-01 00:00:00+00:00, until 2028-01-01 00:00:00+00:00",
    ]


def test_an_interval_is_counted_from_its_anchor():
    """Not from whoever asks: a second beat counts the same slots."""
    every = Interval(timedelta(minutes=90), anchor=aware(2026, 1, 1, 0, 10))
    expected = [aware(2026, 1, 1, 1, 40), aware(2026, 1, 1, 3, 10)]
    assert list(between(every, aware(2026, 1, 1, 0, 10), END, 2)) == expected
    assert Interval(DAY).next_after(aware(2026, 6, 1, 5)) == datetime(2026, 6, 2, tzinfo=UTC)
    assert EPOCH.year == 1970


def test_an_interval_in_a_zone_counts_real_hours():
    """The anchor's zone changes its clocks, the interval does not."""
    every = Interval(timedelta(hours=6), anchor=aware(2026, 3, 28, 0))
    found = list(between(every, aware(2026, 3, 28, 0), aware(2026, 3, 30, 0)))
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=6)}


def test_a_bounded_timetable_begins_at_its_start_and_ends_before_its_end():
    start = aware(2026, 1, 1, 9)
    timetable = Bounded(Interval(timedelta(hours=1), start), start, start + timedelta(hours=2))
    found = list(between(timetable, start - 365 * DAY, END))
    assert found == [start, start + timedelta(hours=1)]


def test_a_clocked_timetable_fires_once():
    at = aware(2026, 1, 1, 9)
    assert list(between(Clocked(at), at - DAY, END)) == [at]
    assert Clocked(at).next_after(at) is None


def test_the_sun_rises_at_the_same_second_whoever_asks():
    """Its library finds other fractions of a second from another start."""
    berlin = Solar("sunrise", 52.52, 13.405)
    expected = list(between(berlin, aware(2026, 3, 20), aware(2026, 4, 10)))
    assert len(expected) == 21
    for hours in range(0, 20 * 24, 7):
        after = aware(2026, 3, 20) + timedelta(hours=hours)
        assert berlin.next_after(after) == next(moment for moment in expected if moment > after)


def test_the_sun_does_not_rise_in_the_polar_night():
    found = list(between(Solar("sunrise", 69.65, 18.96), aware(2026, 11, 20), aware(2027, 1, 20)))
    longest = max(pairwise(found), key=lambda pair: pair[1] - pair[0])
    assert [moment.date().isoformat() for moment in longest] == ["2026-11-27", "2027-01-15"]


def test_what_the_sun_never_does_is_refused():
    with pytest.raises(ValueError, match="moonrise"):
        Solar("moonrise", 52.5, 13.4)
    with pytest.raises(ValueError, match="latitude"):
        Solar("sunrise", 152.5, 13.4)


moments = st.timedeltas(timedelta(0), END - START).map(lambda passed: START + passed)


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    """Draw one field of a crontab: a number, two, a range, or steps."""
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        st.integers(1, high).map(lambda n: f"*/{n}"),
        number.map(str),
        st.tuples(number, number).map(lambda pair: f"{pair[0]},{pair[1]}"),
        st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    )


crontabs = st.builds(
    Crontab,
    minute=fields(0, 59),
    hour=fields(0, 23),
    day_of_month=fields(1, 28),
    month_of_year=fields(1, 12),
    day_of_week=fields(0, 6),
    tz=st.sampled_from([ZoneInfo(name) for name in ZONES]),
)
timetables = st.one_of(
    crontabs,
    st.builds(Interval, st.timedeltas(timedelta(seconds=1), timedelta(days=40)), moments),
    st.builds(Clocked, moments),
)


@given(timetables, moments, moments)
def test_the_next_moment_is_later_and_never_earlier_for_who_asks_later(timetable, one, other):
    """Strictly after, and monotone."""
    earlier, later = sorted([one, other])
    first, second = timetable.next_after(earlier), timetable.next_after(later)
    assert first is None or first > earlier
    assert second is None or (first is not None and second >= first)
    if first is not None and first > later:
        assert second == first


@given(timetables, moments, st.integers(2, 30))
def test_between_leaves_out_no_moment_that_any_start_would_find(timetable, after, parts):
    """However a span is cut, the pieces hold the same moments as the whole."""
    until = after + timedelta(days=3)
    whole = list(between(timetable, after, until, 500))
    assert whole == sorted(set(whole))
    if len(whole) == 500:
        until = whole[-1]
    cuts = [after + (until - after) * n / parts for n in range(parts + 1)]
    pieces = [list(between(timetable, *cut)) for cut in pairwise(cuts)]
    assert [moment for piece in pieces for moment in piece] == whole
