"""Contestant: plain Celery on Redis that keeps no result, without Django."""

import os
from collections.abc import Iterable

from celery import Celery

from benchmarks import stamps

app = Celery("with_celery", broker=os.environ["BENCHMARK_BROKER"])
noop = app.task(name="noop", ignore_result=True)(stamps.leave)


@app.task(name="charge", ignore_result=True)
def charge(order_id: int, note: str) -> None:
    """Do nothing: what counts is the call."""


def fill(count: int) -> None:
    """Publish no-op calls."""
    for _ in range(count):
        noop.apply_async()


def one_by_one(orders: Iterable[int]) -> None:
    """Publish each call."""
    for order in orders:
        charge.apply_async((order, "a note"))
