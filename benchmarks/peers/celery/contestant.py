"""Contestant: plain Celery that keeps no result, without Django."""

import os
from collections.abc import Iterable

from celery import Celery

from benchmarks import looking, rows, stamps

app = Celery("plain", broker=os.environ["BENCHMARK_BROKER"])
if os.environ["BENCHMARK_BROKER"].startswith("amqp:"):
    # Else a message that the broker has not taken would be lost without a word.
    app.conf.broker_transport_options = {"confirm_publish": True}

noop = app.task(name="noop", ignore_result=True)(stamps.leave)


@app.task(name="write", ignore_result=True)
def write(number: int) -> None:
    """Write one row and leave a stamp."""
    rows.write_alone(number)
    stamps.leave()


@app.task(name="charge", ignore_result=True)
def charge(order_id: int, note: str) -> None:
    """Do nothing: what counts is the call."""


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
    """Commit a row and then publish a call, for each order: nothing holds the two together."""
    for order in orders:
        rows.write_alone(order)
        charge.apply_async((order, "a note"))


#: There is no bulk call: a loop it is.
bulk = one_by_one


def call() -> int:
    """Publish a call; return by what its end is known: a stamp more than these."""
    before = looking.stamps_so_far()
    noop.apply_async()
    return before


seen = looking.in_stamps
