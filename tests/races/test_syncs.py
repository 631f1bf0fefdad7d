"""Two beats that start at once: each declaration becomes one row."""

from __future__ import annotations

import pytest
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from tasks_app import periodic
from tasks_app.models import Timer
from tasks_app.periodic import declaring
from tasks_app.periodic.sync import sync
from tests.races.two import at_once
from tests.testapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)


def test_syncs_at_once_make_each_row_once(monkeypatch):
    """Also schedules, which have no constraint to keep them apart."""
    monkeypatch.setattr(declaring, "declarations", [])
    by_hand = IntervalSchedule.objects.create(every=9, period="hours")
    for n in range(4):
        PeriodicTask.objects.create(name=f"by hand {n}", task="any", interval=by_hand)
        periodic("*/7 3 * * *", name=f"number {n}")(add)
    for _ in range(3):
        reports = at_once(sync, sync, sync)
        created = sorted(name for report in reports for name in report.created)
        assert created == [f"number {n}" for n in range(4)]
        assert CrontabSchedule.objects.filter(minute="*/7").count() == 1
        assert PeriodicTask.objects.filter(enabled=True).count() == 8
        assert Timer.objects.count() == 8
        PeriodicTask.objects.filter(crontab__minute="*/7").delete()
        CrontabSchedule.objects.all().delete()
        Timer.objects.all().delete()


def test_of_two_that_switch_off_one_does(monkeypatch):
    monkeypatch.setattr(declaring, "declarations", [])
    periodic(60, name="job")(add)
    sync()
    declaring.declarations.clear()
    reports = at_once(sync, sync)
    assert sorted(report.disabled for report in reports) == [[], ["job"]]
    assert sync().disabled == []
