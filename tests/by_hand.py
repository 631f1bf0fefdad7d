"""The legs of a call's path, taken one at a time in this process.

A test that has to stand between two statements of a worker cannot use a worker. These are the
worker's own functions on the real database; only the process that calls them is the test's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, TypeVar

from django.db import connections
from django.db.models import F

from tasks_app import worker
from tasks_app.broker import DOORBELL
from tasks_app.models import Outcome
from tests.project import app

T = TypeVar("T")


def run(outcome: Outcome, helper: Callable[..., Any] | None = None) -> Any:
    """Run a claimed outcome as its worker would, with another helper where one is given."""
    task = app.tasks[outcome.task_name]
    return worker.execute(outcome, task.options, helper or task.run)


def answer(outcome: Outcome, helper: Callable[..., Any] | None = None) -> Any:
    """Answer a doorbell for an outcome as a worker would."""
    task = app.tasks[outcome.task_name]
    request = SimpleNamespace(id=str(outcome.pk), headers={DOORBELL: outcome.fence})
    return worker.answer(task.name, task.options, helper or task.run, request)


def let_lease_run_out(outcome: Outcome) -> None:
    """Make the time of a running outcome's lease pass."""
    past = F("lease_until") - timedelta(days=1)
    Outcome.objects.filter(pk=outcome.pk).update(lease_until=past)


def come_due(outcome: Outcome, waited: timedelta) -> None:
    """Make some time pass for a pending outcome that waits for its next announcement."""
    past = F("announce_at") - waited
    Outcome.objects.filter(pk=outcome.pk).update(announce_at=past)


def elsewhere(act: Callable[[], T]) -> T:
    """Do an act in another thread, hence on another connection, and return its result."""

    def act_and_disconnect() -> T:
        try:
            return act()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act_and_disconnect).result()
