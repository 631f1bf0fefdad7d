"""
One table of a size: it is filled here, and what the paths cost beside its rows is measured here.

What was enqueued is deleted again, so that a table keeps its size but for what a vacuum leaves.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping

# The contestant comes first: it sets Django up.
from benchmarks.with_outcomes import app, call, charge, fill, has_result  # isort: skip

from django.db import connection

from benchmarks import answers
from benchmarks.made_rows import insert
from benchmarks.stopwatch import milliseconds
from tasks_app import rescue
from tasks_app.conf import conf
from tasks_app.models import Attempt, Outcome
from tasks_app.relay import Relay
from tasks_app.uuid7 import uuid7

#: What each measure does in one turn: calls of each kind, looks, batches.
SINGLE, BULK, TIMED, DRAINED, LOOKS, BATCHES = 200, 5_000, 100, 8_000, 20, 5

#: The rows that were there before have ids that are less.
BEGAN = uuid7()

#: A row for each outcome, the oldest first, spread over a week; ids grow with time, as real ones.
SOURCE = """
    SELECT i, moment, now() + interval '1 hour' + i * interval '1 second' AS later,
        (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid AS id
    FROM (SELECT i, now() - (total - i) * interval '7 days' / total AS moment
          FROM generate_series(1, %s) AS i, (SELECT %s AS total) AS sizes) AS numbered
"""

#: What rows of every kind have in common: column → its expression over a row of `SOURCE`.
COMMON = {
    "id": "id",
    "task_name": "'charge'",
    "queue": "'celery'",
    "args_json": """'[' || i || ',"a note"]'""",
    "created_at": "moment",
    "root_id": "id",
}

#: Kind → what its rows are beyond that.
KINDS = {
    "pending": {"run_at": "later", "announce_at": "later"},
    "finished": {
        "state": "'succeeded'",
        "run_at": "moment",
        "announce_at": "moment + interval '30 seconds'",
        "announced": "1",
        "attempt": "1",
        "fence": "1",
        "finish_fence": "1",
        "worker": "'celery@shop-1#0a1b2c/12345'",
        "started_at": "moment",
        "finished_at": "moment + interval '1 second'",
        "result_json": "'null'",
    },
}

#: The attempt of each finished outcome.
RUNS = "SELECT * FROM tasks_app_outcome WHERE state = 'succeeded' ORDER BY id"
ATTEMPTS = {
    "outcome_id": "id",
    "number": "1",
    "fence": "1",
    "state": "state",
    "worker": "worker",
    "due_at": "run_at",
    "started_at": "started_at",
    "finished_at": "finished_at",
}


def make(kind: str, rows: int) -> None:
    """Fill the table with rows of a kind, and let the database know them."""
    insert(Outcome, {**COMMON, **KINDS[kind]}, SOURCE, rows, rows)
    insert(Attempt, ATTEMPTS, RUNS)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        # What filling has left to write is no cost of what is measured.
        cursor.execute("CHECKPOINT")


def enqueue() -> float:
    """Return calls per second, each its own durable commit."""
    began = time.perf_counter()
    for order in range(SINGLE):
        charge.enqueue(order, "a note")
    return SINGLE / (time.perf_counter() - began)


def enqueue_many() -> float:
    """Return calls per second of one bulk."""
    calls = [(order, "a note") for order in range(BULK)]
    began = time.perf_counter()
    charge.enqueue_many(calls)
    return BULK / (time.perf_counter() - began)


def idle_look() -> float:
    """Return the milliseconds of a relay's look that finds nothing."""
    return _median(Relay(app).run_once)


def announcing() -> float:
    """Return how many rows per second a relay takes and rings for, as many as it may at a look."""
    relay, seconds = Relay(app), 0.0
    for _ in range(BATCHES):
        fill(conf.MAX_IN_FLIGHT)
        began = time.perf_counter()
        announced = relay.run_once().announced
        seconds += time.perf_counter() - began
        if announced != conf.MAX_IN_FLIGHT:
            sys.exit(f"{announced} of {conf.MAX_IN_FLIGHT} rows were announced")
        clear()
    relay.publisher.close()
    return BATCHES * conf.MAX_IN_FLIGHT / seconds


def rescue_look() -> float:
    """Return the milliseconds of a look for orphans that finds none."""
    return _median(rescue.run_once)


def latency() -> float:
    """Return the median of the milliseconds from a call's commit to its visible result."""
    return statistics.median(answers.milliseconds(call, has_result, TIMED))


def backlog() -> float:
    """Enqueue the calls of a drain, and return their number."""
    fill(DRAINED)
    return DRAINED


def clear() -> float:
    """Delete what has been enqueued since this process began, and return the number of rows."""
    new = Outcome.objects.filter(pk__gt=BEGAN)
    Attempt.objects.filter(outcome_id__gt=BEGAN)._raw_delete(connection.alias)
    count = new._raw_delete(connection.alias)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM tasks_app_outcome, tasks_app_attempt")
    return float(count)


#: What a turn does, by the name that asks for it.
ACTS: Mapping[str, Callable[[], float]] = {
    act.__name__: act
    for act in (
        *(enqueue, enqueue_many, idle_look, announcing, rescue_look, latency),
        *(backlog, clear),
    )
}


def take_turns() -> None:
    """Do what each line names, and answer with the number that it returns."""
    for line in sys.stdin:
        print(json.dumps(ACTS[line.strip()]()), flush=True)


def _median(look: Callable[[], object]) -> float:
    look()
    return statistics.median(milliseconds(look) for _ in range(LOOKS))


if __name__ == "__main__":
    if sys.argv[1:]:
        make(sys.argv[1], int(sys.argv[2]))
    else:
        take_turns()
