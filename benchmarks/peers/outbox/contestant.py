"""Contestant: django-celery-outbox, whose calls are rows that a relay publishes."""

import logging
import os
from collections.abc import Iterable
from functools import partial

import structlog

from benchmarks.peers import django_project

# It warns of each call outside a transaction; writing that would be measured too.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

django_project.set_up(
    "django_celery_outbox",
    keeps_connections=True,
    CELERY_OUTBOX_APP="benchmarks.peers.outbox.contestant.app",
)

from django.core.management import call_command
from django.db import transaction
from django_celery_outbox import OutboxCelery

from benchmarks import rows, stamps

app = OutboxCelery("outbox", broker=os.environ["BENCHMARK_BROKER"])
noop = app.task(name="noop", ignore_result=True)(stamps.leave)


@app.task(name="charge", ignore_result=True)
def charge(order_id: int, note: str) -> None:
    """Do nothing: what counts is the call."""


prepare = partial(call_command, "migrate", verbosity=0)


def fill(count: int) -> None:
    """Enqueue no-op calls."""
    with transaction.atomic():
        for _ in range(count):
            noop.apply_async()


def one_by_one(orders: Iterable[int]) -> None:
    """Enqueue each call by itself, committing each."""
    for order in orders:
        charge.apply_async((order, "a note"))


def in_transactions(orders: Iterable[int]) -> None:
    """Write a row and enqueue a call in one transaction, for each order."""
    for order in orders:
        with transaction.atomic():
            rows.write(order)
            charge.apply_async((order, "a note"))


def bulk(orders: Iterable[int]) -> None:
    """Enqueue in a loop, for want of a bulk call, in one transaction."""
    with transaction.atomic():
        one_by_one(orders)
