"""Beat's entries while the broker is away: a tick is a row, and rows wait."""

from __future__ import annotations

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from tasks_app.models import Outcome
from tests.faults.cases.runs.damage import RESCUED
from tests.installation import PATIENCE
from tests.processes import start_beat
from tests.testapp import tasks
from tests.waiting import wait_until


@pytest.fixture
def entry(case, trapped):
    """An entry of beat's that is due every second and calls with the case's key."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    made = PeriodicTask.objects.create(
        name=case.key,
        task=tasks.record.name,
        interval=interval,
        args=f'["{case.key}"]',
        queue=trapped.queue,
    )
    yield made
    made.delete()


@pytest.mark.usefixtures("entry")
def test_f54_a_tick_without_a_broker_runs_later(case, trapped, broker_server):
    """Beat goes on writing rows while nobody can reach the broker; then all of them run."""
    ticks = Outcome.objects.filter(queue=trapped.queue, args_json__contains=case.key)
    with start_beat(trapped.installation.folder, name=f"beat-{case.key}") as beat:
        wait_until(ticks.exists, PATIENCE, beat.tail)
        broker_server.pause()
        seen = ticks.count()
        wait_until(lambda: ticks.count() >= seen + 2, PATIENCE, beat.tail)
    broker_server.resume()
    with case.recovers(within=RESCUED):
        wait_until(lambda: not ticks.exclude(state="succeeded").exists(), PATIENCE, trapped.tail)
    assert len(case.effects()) == ticks.count()
