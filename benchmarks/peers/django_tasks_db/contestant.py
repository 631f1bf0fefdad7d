"""Contestant: django-tasks-db with kept connections and a worker that polls often."""

from collections.abc import Iterable
from functools import partial

from benchmarks.peers import django_project

django_project.set_up(
    "django_tasks",
    "django_tasks_db",
    keeps_connections=True,
    TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
)

from django.core.management import call_command
from django.db import transaction
from django_tasks import task

from benchmarks import looking, rows, stamps

#: Seconds between two looks of an idle worker; by default it is one second.
INTERVAL = 0.02


@task
def noop() -> None:
    """Leave a stamp."""
    stamps.leave()


@task
def write(number: int) -> None:
    """Write one row and leave a stamp."""
    rows.write(number)
    stamps.leave()


@task
def charge(order_id: int, note: str) -> None:
    """Do nothing: what counts is the call."""


prepare = partial(call_command, "migrate", verbosity=0)


def fill(count: int) -> None:
    """Enqueue no-op calls."""
    with transaction.atomic():
        for _ in range(count):
            noop.enqueue()


def fill_writing(count: int) -> None:
    """Enqueue calls that write a row."""
    with transaction.atomic():
        for number in range(count):
            write.enqueue(number)


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
    """Enqueue in a loop, for want of a bulk call, in one transaction."""
    with transaction.atomic():
        one_by_one(orders)


def call() -> str:
    """Enqueue a call; return its id."""
    return noop.enqueue().id


seen = partial(
    looking.in_database,
    "SELECT status = 'SUCCESSFUL' FROM django_tasks_database_dbtaskresult WHERE id = %s",
)


def work() -> None:
    """Be a worker until SIGTERM."""
    call_command("db_worker", interval=INTERVAL, startup_delay=False, verbosity=0)
