"""Beat enqueues like any other caller: its entries become outcomes."""

from __future__ import annotations

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from tasks_app.models import Outcome
from tests.processes import start_beat, start_worker
from tests.testapp.tasks import add
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds that anything may take on a busy machine.
PATIENCE = 60


def test_a_periodic_entry_becomes_outcomes(tmp_path):
    """What beat sends has a row of its own each time, and a worker runs it."""
    every_second = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(name="sum", task=add.name, interval=every_second, args="[2, 3]")
    with start_beat(tmp_path), start_worker(tmp_path):
        sums = Outcome.objects.filter(task_name=add.name, state="succeeded", result_json="5")
        wait_until(lambda: sums.count() >= 2, PATIENCE, "two sums that beat asked for")
    request_ids = sums.values_list("request_id", flat=True)
    assert None not in request_ids
    assert len(set(request_ids)) == len(request_ids)
