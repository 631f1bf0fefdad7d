"""
The ways of a task of Celery with django-celery-results; see `footprint`.

Its calls go to the broker alone, so enqueueing them leaves no trace in the database.
"""

from collections.abc import Iterable
from typing import Any

from celery.utils import uuid

# It sets Django up.
from benchmarks.with_results import app, noop

# isort: split
from django.db import connection, transaction

from benchmarks.footprint import Way, serve, trace

fixup = serve(app)


@app.task(name="write")
def write() -> None:
    """Write one row."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effect (key) VALUES ('key')")


@app.task(name="flaky", bind=True, autoretry_for=(ValueError,), retry_kwargs={"countdown": 0})
def flaky(task: Any) -> None:
    """Fail at the first attempt."""
    if task.request.retries == 0:
        raise ValueError("not yet")


def enqueue(numbers: Iterable[int]) -> None:
    """Publish calls."""
    for _number in numbers:
        noop.apply_async()


def work(numbers: Iterable[int]) -> None:
    """Commit transactions that write one row."""
    for _number in numbers:
        with transaction.atomic():
            write.run()


def work_and_enqueue(numbers: Iterable[int]) -> None:
    """Commit transactions that write one row, at whose end one call is published."""
    for _number in numbers:
        with transaction.atomic():
            write.run()
            transaction.on_commit(noop.apply_async)


def run(called: Any, ids: Iterable[str]) -> None:
    """Run each call."""
    for task_id in ids:
        trace(called, task_id)


def run_twice(ids: Iterable[str]) -> None:
    """Run each call until it has failed, and again until it has not."""
    for task_id in ids:
        trace(flaky, task_id)
        trace(flaky, task_id, retries=1)


def new_ids(count: int) -> list[str]:
    """Return ids for calls."""
    return [uuid() for _ in range(count)]


WAYS = (
    Way("enqueue, autocommit", enqueue),
    Way("enqueue, in a transaction", work_and_enqueue, without=work),
    Way("run, no-op", lambda ids: run(noop, ids), new_ids),
    Way("run, one row", lambda ids: run(write, ids), new_ids),
    Way("run, retried once", run_twice, new_ids),
)
