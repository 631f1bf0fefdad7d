"""Contestant: Celery with django-celery-results, whose rows show what runs and with what."""

import os
from collections.abc import Iterable
from functools import partial

from benchmarks.peers import django_project

#: Whether connections outlive a task.
KEPT = os.environ.get("BENCHMARK_KEEPS_CONNECTIONS") == "1"

django_project.set_up("django_celery_results", keeps_connections=KEPT)

from celery import Celery
from celery.fixups.django import DjangoWorkerFixup
from django.core.management import call_command
from django.db import transaction

from benchmarks import looking, rows, stamps

# Celery takes care of Django's connections where this is set, as it is in every Django project.
os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peers.django_project"
app = Celery("results", broker=os.environ["BENCHMARK_BROKER"], backend="django-db")
app.conf.update(task_track_started=True, result_extended=True)
if KEPT:
    # It closes connections around each task whatever CONN_MAX_AGE says.
    DjangoWorkerFixup.close_database = lambda self, **signal: None

noop = app.task(name="noop")(stamps.leave)


@app.task(name="write")
def write(number: int) -> None:
    """Write one row and leave a stamp."""
    rows.write(number)
    stamps.leave()


@app.task(name="charge")
def charge(order_id: int, note: str) -> None:
    """Do nothing: what counts is the call."""


prepare = partial(call_command, "migrate", verbosity=0)


def fill(count: int) -> None:
    """Publish no-op calls."""
    for _ in range(count):
        noop.apply_async()


def fill_writing(count: int) -> None:
    """Publish calls that write a row."""
    for number in range(count):
        write.apply_async((number,))


def one_by_one(orders: Iterable[int]) -> None:
    """Publish each call."""
    for order in orders:
        charge.apply_async((order, "a note"))


def in_transactions(orders: Iterable[int]) -> None:
    """Write a row and publish a call once it is committed, for each order."""
    for order in orders:
        with transaction.atomic():
            rows.write(order)
            transaction.on_commit(partial(charge.apply_async, (order, "a note")))


#: There is no bulk call: a loop it is.
bulk = one_by_one


def call() -> str:
    """Publish a call; return its id."""
    return noop.apply_async().id


seen = partial(
    looking.in_database,
    "SELECT status = 'SUCCESS' FROM django_celery_results_taskresult WHERE task_id = %s",
)
