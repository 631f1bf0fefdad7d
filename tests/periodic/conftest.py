"""No schedules but those of the test: what the example project declares stays out."""

from __future__ import annotations

import pytest
from django_celery_beat.models import PeriodicTask

from tasks_app.periodic import declaring


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch, db):
    monkeypatch.setattr(declaring, "declarations", [])
    PeriodicTask.objects.all().delete()
