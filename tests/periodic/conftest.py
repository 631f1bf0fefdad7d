"""No schedules but those of the test, and no slot that comes up amid one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django_celery_beat.models import PeriodicTask

from tasks_app.periodic import declaring
from tests.waiting import wait_until

#: Seconds before the next minute in which no test begins: its entries fire each minute.
CLOSE = 10


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch, db):
    """What the example project declares stays out."""
    monkeypatch.setattr(declaring, "declarations", [])
    PeriodicTask.objects.all().delete()


@pytest.fixture(autouse=True)
def amid_a_minute():
    """The slot that a test makes due stays the newest one."""
    wait_until(lambda: datetime.now(UTC).second < 60 - CLOSE, 2 * CLOSE, "the next minute")
