"""Contestant: this project without a server: outcomes in SQLite, doorbells in files."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.advised_files_settings")

import django

django.setup()

from uuid import UUID

from benchmarks import stamps
from tasks_app import task
from tasks_app.celery import app
from tasks_app.models import Outcome
from tasks_app.states import State

__all__ = ["app", "call", "fill", "has_result", "noop"]

noop = task(stamps.leave, name="noop")


def fill(count: int) -> None:
    """Enqueue no-op calls."""
    noop.enqueue_many([()] * count)


def call() -> UUID:
    """Enqueue one no-op call and return its id."""
    return noop.enqueue().id


def has_result(call_id: UUID) -> bool:
    """Tell whether a call has succeeded."""
    return Outcome.objects.filter(pk=call_id, state=State.SUCCEEDED).exists()
