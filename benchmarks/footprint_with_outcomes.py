"""The ways of a task of this project; see `footprint`."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

# It sets Django up.
from benchmarks.with_outcomes import app, charge, noop

# isort: split
from django.db import connection, transaction

from benchmarks.footprint import Way, serve, trace
from tasks_app import RetryPolicy, current, task
from tasks_app.relay import BATCH, Relay

fixup = serve(app)
relay = Relay(app)


@task(name="write")
def write() -> None:
    """Write one row."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effect (key) VALUES ('key')")


@task(name="flaky", retry=RetryPolicy(max_attempts=2, initial=0, jitter=False))
def flaky() -> None:
    """Fail at the first attempt."""
    if current.attempt == 1:
        raise ValueError("not yet")


def enqueue(numbers: Iterable[int]) -> None:
    """Enqueue calls that commit by themselves."""
    for number in numbers:
        charge.enqueue(number, "a note")


def enqueue_with_key(numbers: Iterable[int]) -> None:
    """Enqueue calls with a key that nobody has used."""
    for number in numbers:
        charge.using(idempotency_key=uuid4().hex).enqueue(number, "a note")


def work(numbers: Iterable[int]) -> None:
    """Commit transactions that write one row."""
    for _number in numbers:
        with transaction.atomic():
            write.helper()


def work_and_enqueue(numbers: Iterable[int]) -> None:
    """Commit transactions that write one row and enqueue one call."""
    for number in numbers:
        with transaction.atomic():
            write.helper()
            charge.enqueue(number, "a note")


def enqueue_many(numbers: Sequence[int]) -> None:
    """Enqueue calls all at once."""
    charge.enqueue_many([(number, "a note") for number in numbers])


def pending(count: int) -> None:
    """Leave nothing but so many outcomes, of which none has been announced."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE tasks_app_outcome CASCADE")
    noop.enqueue_many([()] * count)


def ids_of(called: Any, count: int) -> Sequence[str]:
    """Return the ids of new calls."""
    return [str(pk) for pk in called.enqueue_many([()] * count)]


def run(called: Any, ids: Iterable[str]) -> None:
    """Run each call."""
    for pk in ids:
        trace(called, pk, ignore_result=True)


WAYS = (
    Way("enqueue, autocommit", enqueue),
    Way("enqueue, in a transaction", work_and_enqueue, without=work),
    Way("enqueue, with a key", enqueue_with_key),
    Way("enqueue, 1,000 at once", enqueue_many, tasks=1_000),
    Way("relay, 200 at once", lambda _: relay.run_once(), pending, BATCH),
    Way("run, no-op", lambda ids: run(noop, ids), lambda count: ids_of(noop, count)),
    Way("run, one row", lambda ids: run(write, ids), lambda count: ids_of(write, count)),
    Way("run, retried once", lambda ids: run(flaky, [*ids, *ids]), lambda n: ids_of(flaky, n)),
)
