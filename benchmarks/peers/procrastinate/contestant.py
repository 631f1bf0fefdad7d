"""Contestant: Procrastinate with its Django app; a worker listens for notifications."""

import os
from collections.abc import Iterable
from functools import partial

from benchmarks.peers import django_project

django_project.set_up("procrastinate.contrib.django", keeps_connections=True)

from django.core.management import call_command
from django.db import transaction
from procrastinate.contrib.django import app

from benchmarks import looking, rows, stamps

#: Jobs that one worker process has in hand at once. Its tasks are coroutines.
CONCURRENCY = int(os.environ.get("BENCHMARK_CONCURRENCY", "1"))


@app.task(name="noop")
async def noop() -> None:
    """Leave a stamp."""
    stamps.leave()


@app.task(name="write", pass_context=True)
async def write(context, number: int) -> None:  # noqa: ANN001 - of Procrastinate
    """Write one row through the worker's own pool and leave a stamp."""
    await context.app.connector.execute_query_async(
        rows.WRITE.replace("%s", "%(number)s"), number=number
    )
    stamps.leave()


@app.task(name="charge")
async def charge(order_id: int, note: str) -> None:
    """Do nothing: what counts is the call."""


prepare = partial(call_command, "migrate", verbosity=0)


def fill(count: int) -> None:
    """Defer no-op calls."""
    noop.batch_defer(*[{}] * count)


def fill_writing(count: int) -> None:
    """Defer calls that write a row."""
    write.batch_defer(*[{"number": number} for number in range(count)])


def one_by_one(orders: Iterable[int]) -> None:
    """Defer each call by itself, committing each."""
    for order in orders:
        charge.defer(order_id=order, note="a note")


def in_transactions(orders: Iterable[int]) -> None:
    """Write a row and defer a call in one transaction, for each order."""
    for order in orders:
        with transaction.atomic():
            rows.write(order)
            charge.defer(order_id=order, note="a note")


def bulk(orders: Iterable[int]) -> None:
    """Defer all calls at once."""
    charge.batch_defer(*[{"order_id": order, "note": "a note"} for order in orders])


def call() -> int:
    """Defer a call; return its id."""
    return noop.defer()


seen = partial(
    looking.in_database, "SELECT status = 'succeeded' FROM procrastinate_jobs WHERE id = %s"
)


def work() -> None:
    """Be a worker until SIGTERM."""
    with app.replace_connector(app.connector.get_worker_connector()) as worker:
        worker.run_worker(concurrency=CONCURRENCY, listen_notify=True)
