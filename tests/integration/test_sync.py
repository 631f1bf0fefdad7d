"""Sync: code owns its entries, the admin's changes stay, rows made by hand are left alone."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from tasks_app import periodic
from tasks_app.models import Timer
from tasks_app.periodic import Missed, declaring, solar
from tasks_app.periodic import sync as sync_side
from tasks_app.periodic.entries import schedule_of
from tasks_app.periodic.sync import Report, changed_by_hand, sync
from tests.testapp.tasks import add, charge

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    """Begin without entries, and forget what the test declares."""
    monkeypatch.setattr(declaring, "declarations", [])
    PeriodicTask.objects.all().delete()
    Timer.objects.all().delete()


def declare(when="*/5 * * * *", over=add, **options):
    """Declare a task anew, in place of what the test declared before."""
    declaring.declarations.clear()
    periodic(when, **{"name": "job", "tz": None, **options})(over)


def entry(name="job"):
    return PeriodicTask.objects.get(name=name)


def timer(name="job"):
    return Timer.objects.get(code_name=name)


def by_admin(**fields):
    """Change the entry as its form does."""
    found = entry()
    for field, value in fields.items():
        setattr(found, field, value)
    found.save()


def interval(every, period="minutes"):
    return IntervalSchedule.objects.get_or_create(every=every, period=period)[0]


def test_a_declaration_becomes_an_entry_with_its_timer():
    declare("0 2 * * mon", tz="Europe/Berlin", args=[1], kwargs={"b": 2}, jitter=30,
            missed=Missed.all(max=10), overlap="skip")  # fmt: skip
    assert sync() == Report(created=["job"])
    made, made_timer = entry(), timer()
    assert (made.task, made.args, made.kwargs) == (add.name, "[1]", '{"b": 2}')
    assert schedule_of(made) == {"crontab": ["0", "2", "*", "*", "mon", "Europe/Berlin"]}
    assert made.enabled
    assert not made.one_off
    assert made_timer.entry_id == made.pk
    assert (made_timer.missed, made_timer.missed_max, made_timer.overlap) == ("all", 10, "skip")
    assert (made_timer.jitter_seconds, made_timer.next_at) == (30, None)
    assert changed_by_hand(made, made_timer) == ()


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("* * * * *", {"crontab": ["*", "*", "*", "*", "*", "UTC"]}),
        (90, {"interval": [90, "seconds"]}),
        (solar("sunset", 52.52, -13.405), {"solar": ["sunset", 52.52, -13.405]}),
        (datetime(2031, 1, 1, 9, tzinfo=UTC), {"clocked": "2031-01-01T09:00:00+00:00"}),
    ],
)
def test_each_kind_of_schedule_comes_back_as_declared(when, expected):
    """Nothing is changed the second time, and no schedule is made twice."""
    declare(when)
    sync()
    made = entry()
    assert schedule_of(made) == expected
    assert made.one_off == ("clocked" in expected)
    periodic(when, name="other")(charge)
    assert sync() == Report(created=["other"])
    assert sync() == Report()
    (kind,) = expected
    assert getattr(entry("other"), kind) == getattr(made, kind)


def test_a_second_sync_finds_nothing_to_do():
    """No scheduler reloads, and the cost does not grow with the entries."""
    declare()
    sync()
    before = PeriodicTasks.last_change()
    with CaptureQueriesContext(connection) as one:
        assert sync() == Report()
    assert PeriodicTasks.last_change() == before
    for n in range(5):
        periodic(60 + n, name=f"number {n}")(add)
    sync()
    with CaptureQueriesContext(connection) as six:
        assert sync() == Report()
    assert len(six) == len(one)


def test_what_code_changes_is_changed():
    declare("*/5 * * * *", args=[1])
    sync()
    declare(timedelta(hours=1), charge, args=[2], missed="skip", enabled=False)
    assert sync() == Report(changed=["job"])
    assert (entry().task, entry().args, entry().enabled) == (charge.name, "[2]", False)
    assert (entry().crontab, schedule_of(entry())) == (None, {"interval": [1, "hours"]})
    assert timer().missed == "skip"
    assert sync() == Report()


def test_what_the_admin_changed_stays_and_is_told():
    """Field by field: what code changes beside it is still changed."""
    declare("*/5 * * * *", args=[1], jitter=1)
    sync()
    by_admin(crontab=None, interval=interval(7), enabled=False, queue="slow")
    assert set(changed_by_hand(entry(), timer())) == {"schedule", "enabled"}
    declare("*/9 * * * *", args=[2], jitter=2)
    report = sync()
    assert set(report.kept["job"]) == {"schedule", "enabled"}
    assert report.changed == ["job"]
    assert (entry().args, timer().jitter_seconds, entry().queue) == ("[2]", 2, "slow")
    assert (schedule_of(entry()), entry().enabled) == ({"interval": [7, "minutes"]}, False)
    assert set(sync().kept["job"]) == {"schedule", "enabled"}
    by_admin(enabled=True)
    assert sync().kept == {"job": ("schedule",)}
    declare(timedelta(minutes=7), args=[2], jitter=2)
    assert sync() == Report()
    assert changed_by_hand(entry(), timer()) == ()


def test_the_same_interval_in_other_words_is_no_change():
    declare(60)
    sync()
    by_admin(interval=interval(60, "seconds"))
    assert changed_by_hand(entry(), timer()) == ()
    assert sync() == Report()


def test_policies_that_were_changed_stay_too():
    declare(missed="all")
    sync()
    Timer.objects.update(missed="skip")
    declare(missed="latest")
    assert sync().kept == {"job": ("missed",)}
    assert timer().missed == "skip"


def test_an_entry_gone_from_code_is_switched_off_and_on_again_when_it_is_back():
    """Once: who then switches it on by hand means it."""
    declare()
    sync()
    declaring.declarations.clear()
    assert sync() == Report(disabled=["job"])
    assert not entry().enabled
    assert sync() == Report()
    by_admin(enabled=True)
    assert sync() == Report()
    by_admin(enabled=False)
    declare("*/9 * * * *")
    assert sync() == Report(changed=["job"])
    assert entry().enabled
    assert entry().crontab.minute == "*/9"


def test_an_entry_that_was_paused_before_it_went_comes_back_paused():
    declare()
    sync()
    by_admin(enabled=False)
    declaring.declarations.clear()
    assert sync() == Report(disabled=["job"])
    declare()
    assert sync().kept == {"job": ("enabled",)}
    assert not entry().enabled


def test_another_name_in_code_is_another_entry():
    declare()
    sync()
    declare(name="new")
    assert sync() == Report(created=["new"], disabled=["job"])
    assert not entry("job").enabled


def test_another_name_in_the_admin_is_the_same_entry():
    """Code knows it by the timer."""
    declare()
    sync()
    by_admin(name="Renamed")
    declare("*/9 * * * *")
    assert sync() == Report(changed=["job"])
    assert PeriodicTask.objects.get().name == timer().name == "Renamed"


def test_a_name_that_the_admin_gave_to_another_declared_entry_is_told(caplog):
    """Neither takes the other's row."""
    declare()
    sync()
    by_admin(name="other")
    periodic(60, name="other")(charge)
    assert sync() == Report()
    assert "the admin gave its name to the entry of 'job'" in caplog.text
    assert PeriodicTask.objects.get().task == add.name


def test_a_deleted_entry_is_made_again():
    """Code owns it; to stop it for good, pause it."""
    declare()
    sync()
    entry().delete()
    assert sync() == Report(created=["job"])
    assert timer().entry_id == entry().pk
    assert Timer.objects.count() == 1


def test_rows_made_by_hand_get_a_timer_and_nothing_else():
    made = PeriodicTask.objects.create(name="by hand", task="any", interval=interval(3))
    before = PeriodicTask.objects.values().get()
    assert sync() == Report()
    assert PeriodicTask.objects.values().get() == before
    given = Timer.objects.get()
    assert (given.entry_id, given.name, given.code_name) == (made.pk, "by hand", None)
    assert (given.missed, given.overlap) == ("latest", "allow")
    assert changed_by_hand(made, given) == ()


def test_a_row_made_by_hand_becomes_the_declared_one_of_its_name():
    """The way from the admin into code; whoever paused it keeps it paused."""
    PeriodicTask.objects.create(
        name="job", task="any", interval=interval(3), enabled=False, queue="slow"
    )
    sync()
    declare()
    assert sync() == Report(changed=["job"])
    assert (entry().task, entry().queue, entry().enabled) == (add.name, "slow", False)
    assert schedule_of(entry()) == {"crontab": ["*/5", "*", "*", "*", "*", "UTC"]}
    assert Timer.objects.get().code_name == "job"
    assert sync().kept == {"job": ("enabled",)}


def test_a_damaged_declared_row_is_no_obstacle():
    """What is broken in it differs from what code said, so it is the admin's."""
    declare(args=[1])
    sync()
    PeriodicTask.objects.update(args="[1,", crontab=None)
    assert set(sync().kept["job"]) == {"args", "schedule"}


def test_it_happens_at_migrate_and_not_at_flush(monkeypatch, caplog):
    """Whoever empties the tables wants no entries."""
    declare()
    call_command("migrate", verbosity=0)
    assert json.loads(timer().declared_json)["task"] == add.name
    PeriodicTask.objects.all().delete()
    sync_side._after_migrations(using="default")
    assert not PeriodicTask.objects.exists()

    def fail():
        raise ImportError("no such library")

    monkeypatch.setattr(sync_side, "load_tasks", fail)
    with caplog.at_level(logging.WARNING, "tasks_app"):
        call_command("migrate", verbosity=0)
    assert "periodic jobs are not synced: ImportError: no such library" in caplog.text
    assert not PeriodicTask.objects.exists()


def test_whoever_migrates_one_app_first_may(monkeypatch):
    """Without the tables of both there is nothing to sync."""
    declare()
    monkeypatch.setattr(PeriodicTask._meta, "db_table", "not_there_yet")
    sync_side._after_migrations(using="default", plan=[])
    monkeypatch.undo()
    assert not PeriodicTask.objects.exists()


def test_crontabs_that_are_there_twice_are_not_made_a_third_time():
    """Upstream has no constraint against that."""
    fields = {"minute": "*/5", "timezone": "UTC"}
    first, _ = CrontabSchedule.objects.create(**fields), CrontabSchedule.objects.create(**fields)
    declare()
    sync()
    assert entry().crontab == first
    assert CrontabSchedule.objects.filter(**fields).count() == 2
