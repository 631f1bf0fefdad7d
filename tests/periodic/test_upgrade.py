"""A project that django-celery-beat's own scheduler served: its entries keep firing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from tasks_app.models import Outcome, Slot, Timer
from tasks_app.periodic.entries import timetable_of
from tasks_app.periodic.slots import INSTANT
from tasks_app.periodic.timetables import between
from tests.periodic.beats import beat, entry, every
from tests.project import app
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds that anything may take on a busy machine.
PATIENCE = 60


def fifty():
    """Make entries of all kinds whose last runs lie behind them."""
    long_ago = timezone.now() - timedelta(days=2)
    berlin = CrontabSchedule.objects.create(minute="30", hour="*/6", timezone="Europe/Berlin")
    schedules = [{"interval": every(seconds=1)}] * 3 + [{}] * 32
    schedules += [{"interval": every(hours=1)}] * 10 + [{"crontab": berlin}] * 5
    rows = [entry(f"entry {number}", **given) for number, given in enumerate(schedules)]
    PeriodicTask.objects.update(last_run_at=long_ago)
    return rows


def fire_as_before():
    """Let the plain scheduler fire what is due, and end as it does."""
    plain = DatabaseScheduler(app=app)
    while plain.tick() == 0:
        if Outcome.objects.count() >= 50:
            break
    plain.sync()


def test_fifty_entries_keep_firing_and_no_slot_is_lost_or_doubled():
    """Counting begins at each one's last run, also for what came due between both schedulers."""
    rows = fifty()
    fire_as_before()
    assert Outcome.objects.count() == 50
    ended = {row.pk: row.last_run_at for row in PeriodicTask.objects.all()}
    ticking = beat()
    ticking.tick()
    assert Timer.objects.filter(pk__in=ended).count() == len(ended)

    def each_second_fired():
        ticking.tick()
        counts = [Slot.objects.filter(entry_id=row.pk).count() for row in rows[:3]]
        return min(counts) >= 2

    wait_until(each_second_fired, PATIENCE, "two slots of each entry that fires every second")
    for row in rows:
        timer = Timer.objects.get(pk=row.pk)
        found = Slot.objects.filter(entry_id=row.pk).order_by("slot_at")
        expected = between(timetable_of(row), ended[row.pk], timer.next_at - INSTANT)
        assert list(found.values_list("slot_at", flat=True)) == list(expected)
        # None of those that the plain scheduler served comes again.
        assert timer.next_at == timetable_of(row).next_after(timer.last_at or ended[row.pk])
    fired = Slot.objects.exclude(outcome_id=None).count()
    assert Outcome.objects.count() == 50 + fired
