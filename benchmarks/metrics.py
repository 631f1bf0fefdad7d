"""
The cost of a scrape with many outcomes: its statements, its milliseconds, and those of a stock.

The rows are made by the database itself. A tenth of them waits; the rest ended within a week, with
one attempt each.
"""

import os
import statistics
import tempfile
from importlib import import_module
from pathlib import Path

import django
from django.db import connection, reset_queries
from prometheus_client import generate_latest

from benchmarks.contestants import Ground
from benchmarks.stopwatch import milliseconds
from tests.servers import PostgreSQL, Redis

ROWS = """
    INSERT INTO tasks_app_outcome (id, task_name, queue, priority, state, reason, args_json,
        kwargs_json, result_json, result_omitted, error, run_at, announce_at, announced, attempt,
        max_attempts, crashes, fence, worker, cancel_reason, progress_message, created_at,
        started_at, finished_at, root_id, options_json, trace_context)
    SELECT gen_random_uuid(), 'shop.task_' || i %% 20, 'celery', 5,
        CASE WHEN i %% 10 = 0 THEN 'pending' WHEN i %% 50 = 1 THEN 'failed' ELSE 'succeeded' END,
        '', '[1, 2]', '{}', '3', '', '', moment, moment, 1, 1, 1, 0, 1, 'w', '', '', moment, moment,
        CASE WHEN i %% 10 = 0 THEN NULL ELSE moment END, gen_random_uuid(), '', ''
    FROM (SELECT i, now() - i * interval '7 days' / %s AS moment
          FROM generate_series(1, %s) AS i) AS rows
"""
ATTEMPTS = """
    INSERT INTO tasks_app_attempt (outcome_id, number, fence, state, worker, due_at, started_at,
        finished_at, error_type, error, traceback, sentry_event_id, log)
    SELECT id, 1, 1, state, 'w', run_at, run_at + interval '1 second',
        run_at + interval '2 seconds', '', '', '', '', ''
    FROM tasks_app_outcome WHERE finished_at IS NOT NULL ORDER BY finished_at
"""


def run(rows: int, rounds: int) -> None:
    """Fill the tables, take stock and scrape, in this process."""
    with PostgreSQL() as database, Redis() as broker, tempfile.TemporaryDirectory() as folder:
        ground = Ground(database, broker, Path(folder))
        ground.migrate()
        os.environ.update(ground.environment(), DJANGO_SETTINGS_MODULE="benchmarks.settings")
        django.setup()
        try:
            measure(rows, rounds)
        finally:
            connection.close()


def measure(rows: int, rounds: int) -> None:
    """Print what each step costs."""
    stock = import_module("tasks_app.stock")
    registry = import_module("tasks_app.integrations.prometheus").registry
    with connection.cursor() as cursor:
        cursor.execute(ROWS, [rows, rows])
        cursor.execute(ATTEMPTS)
        cursor.execute("VACUUM ANALYZE tasks_app_outcome")
        cursor.execute("VACUUM ANALYZE tasks_app_attempt")
    stock.Stock.objects.create(pk=stock.ROW)
    for name in ("first stock", "next stock"):
        print(f"{name}: {milliseconds(stock.take):,.0f} ms", flush=True)
    connection.force_debug_cursor = True
    reset_queries()
    generate_latest(registry)
    print(f"statements of a scrape: {len(connection.queries)}")
    connection.force_debug_cursor = False
    scrapes = [milliseconds(lambda: generate_latest(registry)) for _ in range(rounds * 4)]
    print(
        f"scrape with {rows:,} outcomes: median {statistics.median(scrapes):.1f} ms, "
        f"longest {max(scrapes):.1f} ms"
    )
