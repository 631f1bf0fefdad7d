"""Rows of django-celery-beat are read as upstream reads them; a broken one stops no other."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from tasks_app.exceptions import ConfigurationError
from tasks_app.periodic import entries
from tasks_app.periodic.entries import call_of, enabled, hash_of, timetable_of
from tasks_app.periodic.timetables import between

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _nothing_told():
    entries._told.clear()


def minutely(name="minutely", **fields):
    """Return an entry that fires each minute."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    return PeriodicTask.objects.create(name=name, task="any", interval=interval, **fields)


def damage(entry, **fields):
    """Write what the admin would refuse."""
    PeriodicTask.objects.filter(pk=entry.pk).update(**fields)


def after_noon(entry, count=2):
    return list(between(timetable_of(entry), NOON, NOON + timedelta(days=400), count))


def test_each_kind_of_schedule_is_read():
    """By the tables that people fill in the admin."""
    crontab = CrontabSchedule.objects.create(minute="0, 30", hour="9", timezone="Europe/Berlin")
    solar = SolarSchedule.objects.create(event="solar_noon", latitude="52.5", longitude="13.4")
    clocked = ClockedSchedule.objects.create(clocked_time=NOON + MINUTE)
    create = PeriodicTask.objects.create
    half_past = datetime(2026, 6, 2, 7, 30, tzinfo=UTC)
    by_crontab = create(name="crontab", task="any", crontab=crontab)
    assert after_noon(by_crontab) == [half_past - 30 * MINUTE, half_past]
    assert after_noon(minutely()) == [NOON + MINUTE, NOON + 2 * MINUTE]
    (at_noon,) = after_noon(create(name="solar", task="any", solar=solar), 1)
    assert f"{at_noon:%H:%M}" == "11:04"
    once = create(name="clocked", task="any", clocked=clocked, one_off=True)
    assert after_noon(once) == [NOON + MINUTE]
    assert call_of(once).one_off
    assert {entry.name for entry in enabled()} == {"crontab", "minutely", "solar", "clocked"}


def test_an_entry_fires_from_its_start_until_it_expires():
    start = NOON + timedelta(seconds=7)
    entry = minutely(start_time=start, expires=start + 2 * MINUTE)
    assert after_noon(entry, 9) == [start, start + MINUTE]
    assert call_of(entry).start_time == start


def test_a_zone_less_project_s_times_are_in_its_time_zone(settings):
    """There start and end are stored without one."""
    settings.TIME_ZONE = "Europe/Berlin"
    entry = minutely()
    entry.start_time = datetime(2026, 6, 1, 14, 1)  # noqa: DTZ001
    timezone.get_default_timezone.cache_clear()
    try:
        assert after_noon(entry, 1) == [NOON + MINUTE]
    finally:
        timezone.get_default_timezone.cache_clear()


def test_the_call_has_what_the_row_says():
    call = call_of(
        minutely(
            args='[1, {"a": 2}]',
            kwargs='{"when": {"__type__": "datetime", "__value__": "2026-06-01T12:00:00+00:00"}}',
            headers='{"tenant": "x"}',
            queue="slow",
            exchange="e",
            routing_key="r",
            priority=3,
        )
    )
    assert (call.task, call.args, call.kwargs) == ("any", [1, {"a": 2}], {"when": NOON})
    assert (call.queue, call.exchange, call.routing_key) == ("slow", "e", "r")
    assert (call.headers, call.priority, call.one_off) == ({"tenant": "x"}, 3, False)


@pytest.mark.parametrize(
    ("every", "fields", "seconds", "by_next_slot"),
    [
        ((1, "hours"), {}, 3600, True),
        # Else nothing that fires often could ever start in time.
        ((1, "seconds"), {}, 60, True),
        ((1, "hours"), {"expire_seconds": 5}, 5, False),
        ((1, "hours"), {"expires": NOON + timedelta(days=3)}, 3 * 86400, False),
    ],
)
def test_a_call_expires_when_the_row_says_or_at_the_next_slot(every, fields, seconds, by_next_slot):
    interval = IntervalSchedule.objects.create(every=every[0], period=every[1])
    entry = PeriodicTask.objects.create(name="x", task="any", interval=interval, **fields)
    call = call_of(entry, decided_at=NOON)
    assert call.expires == NOON + timedelta(seconds=seconds)
    assert call.expires_by_next_slot == by_next_slot


def test_the_hash_follows_what_decides_the_times_and_nothing_else():
    """A minute by other words is the same; another start is not."""
    entry = minutely()
    before = hash_of(entry)
    entry.name, entry.args, entry.queue, entry.enabled = "other", "[1]", "slow", False
    entry.interval.every, entry.interval.period = 60, "seconds"
    assert hash_of(entry) == before
    seen = {before}
    entry.interval.every = 61
    seen.add(hash_of(entry))
    entry.start_time = NOON
    seen.add(hash_of(entry))
    entry.expires = NOON
    seen.add(hash_of(entry))
    crontab = CrontabSchedule.objects.create(minute="1", timezone="UTC")
    entry.interval, entry.crontab = None, crontab
    seen.add(hash_of(entry))
    crontab.timezone = "Europe/Berlin"
    seen.add(hash_of(entry))
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"args": "[1,"}, "its args are no JSON. Correct args."),
        ({"args": "{}"}, "its args are JSON of another form. Make args a list"),
        ({"kwargs": "[]"}, "Make kwargs an object"),
        ({"headers": "nonsense"}, "its headers are no JSON"),
        ({"interval": None}, "its schedule was removed. Choose another one"),
    ],
)
def test_a_broken_row_is_told_once_and_stops_no_other(fields, told, caplog):
    """It is not switched off either: mended, it fires again."""
    broken, whole = minutely("broken"), minutely("whole")
    damage(broken, **fields)
    with caplog.at_level(logging.WARNING, "tasks_app"):
        assert list(enabled()) == list(enabled()) == [whole]
    (record,) = caplog.records
    assert "'broken' does not fire" in record.message
    assert told in record.message
    damage(broken, args="[]", kwargs="{}", headers="{}", interval=whole.interval)
    assert set(enabled()) == {broken, whole}


def test_schedules_that_nobody_can_fire_are_told(caplog):
    """A crontab that somebody wrote past the admin, and an interval of nothing."""
    crontab = CrontabSchedule.objects.create(minute="61", timezone="UTC")
    never = IntervalSchedule.objects.create(every=0, period="minutes")
    odd = IntervalSchedule.objects.create(every=1, period="fortnights")
    PeriodicTask.objects.create(name="61", task="any", crontab=crontab)
    PeriodicTask.objects.create(name="0", task="any", interval=never)
    PeriodicTask.objects.create(name="odd", task="any", interval=odd)
    assert list(enabled()) == []
    assert len(caplog.records) == 3
    for entry in PeriodicTask.objects.filter(name__in=["61", "0", "odd"]):
        with pytest.raises(ConfigurationError, match="Correct the schedule"):
            timetable_of(entry)


def test_reading_ten_entries_takes_one_statement(django_assert_num_queries):
    for n in range(10):
        minutely(f"number {n}")
    with django_assert_num_queries(1):
        assert len([(hash_of(entry), call_of(entry)) for entry in enabled()]) == 10
