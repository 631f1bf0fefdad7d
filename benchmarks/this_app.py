"""Contestant: this project, as installed, on PostgreSQL and the broker of the turn."""

import os
from collections.abc import Iterable
from functools import partial

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"

import django

django.setup()

from django.core.management import call_command
from django.db import transaction

from benchmarks import looking, rows, stamps
from tasks_app import task
from tasks_app.celery import app

__all__ = ["app"]

noop = task(stamps.leave, name="noop")


@task(name="write")
def write(number: int) -> None:
    """Write one row and leave a stamp."""
    rows.write(number)
    stamps.leave()


@task(name="charge")
def charge(order_id: int, note: str) -> None:
    """Do nothing: what counts is the call."""


prepare = partial(call_command, "migrate", verbosity=0)


def fill(count: int) -> None:
    """Enqueue no-op calls."""
    noop.enqueue_many([()] * count)


def fill_writing(count: int) -> None:
    """Enqueue calls that write a row."""
    write.enqueue_many([(number,) for number in range(count)])


def one_by_one(orders: Iterable[int]) -> None:
    """Enqueue each call by itself, committing each."""
    for order in orders:
        charge.enqueue(order, "a note")


def in_transactions(orders: Iterable[int]) -> None:
    """Write a row and enqueue a call in one transaction, for each order."""
    for order in orders:
        with transaction.atomic():
            rows.write(order)
            charge.enqueue(order, "a note")


def bulk(orders: Iterable[int]) -> None:
    """Enqueue all calls at once."""
    charge.enqueue_many([(order, "a note") for order in orders])


def call() -> str:
    """Enqueue a call; return its id."""
    return noop.enqueue().pk


seen = partial(
    looking.in_database, "SELECT state = 'succeeded' FROM tasks_app_outcome WHERE id = %s"
)
