"""Contestant: this project, as installed; PostgreSQL holds the outcomes, Redis the doorbells."""

import os
from collections.abc import Iterable
from uuid import UUID

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"

import django

django.setup()

from benchmarks import stamps
from tasks_app import task
from tasks_app.celery import app
from tasks_app.models import Outcome
from tasks_app.states import State

__all__ = ["app", "bulk", "call", "fill", "has_result", "noop", "one_by_one"]

noop = task(stamps.leave, name="noop")


@task(name="charge")
def charge(order_id: int, note: str) -> None:
    """Do nothing: what counts is the call."""


def fill(count: int) -> None:
    """Enqueue no-op calls."""
    noop.enqueue_many([()] * count)


def bulk(orders: Iterable[int]) -> None:
    """Enqueue all calls at once."""
    charge.enqueue_many([(order, "a note") for order in orders])


def one_by_one(orders: Iterable[int]) -> None:
    """Enqueue each call by itself, committing each."""
    for order in orders:
        charge.enqueue(order, "a note")


def call() -> UUID:
    """Enqueue one no-op call and return its id."""
    return noop.enqueue().id


def has_result(call_id: UUID) -> bool:
    """Tell whether a call has succeeded."""
    return Outcome.objects.filter(pk=call_id, state=State.SUCCEEDED).exists()
