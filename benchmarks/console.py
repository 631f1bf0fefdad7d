"""
The console's pages with many outcomes: the time of each, its statements, and the slowest of them.

The rows are made by the database itself, as a year of a desk at work would have left them. A page
that takes longer than `LONGEST`, or sends more statements than `MOST` allows it, fails the run.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import django
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from benchmarks.made_rows import insert
from benchmarks.stopwatch import milliseconds
from tests.servers import PostgreSQL

#: Milliseconds that a page's median may be.
LONGEST = 300

#: Page → statements that it may send, those of session and user included.
MOST = {"dashboard": 12}

#: Outcomes of the one request that caused the most.
TREE = 500

#: Characters of a statement that are told.
TOLD = 150

#: What a page answers.
OK = 200

TASK, QUEUE = "dispatch.fetch_weather", "weather"

#: A row for each outcome, the oldest first: 90 % succeeded, 5 % failed, and the last ones wait, but
#: for some that run. A hundred names, queues and requests make up what they have in common.
SOURCE = f"""
    SELECT i, total, moment,
        (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid AS id,
        (ARRAY['dispatch.fetch_weather', 'dispatch.deliver_webhook', 'dispatch.prepay_fuel',
            'dispatch.draw_map', 'dispatch.send_briefing'])[i %% 5 + 1] AS task_name,
        (ARRAY['weather', 'celery', 'payments', 'maps', 'mail'])[i %% 5 + 1] AS queue,
        CASE WHEN total - i < {TREE} THEN md5('tree') ELSE md5((i / 20)::text) END AS request_id,
        CASE WHEN i %% 20 = 19 THEN 'failed'
             WHEN i %% 100 = 50 THEN 'cancelled'
             WHEN i %% 100 = 70 THEN 'expired'
             WHEN total - i < 20 THEN 'running'
             WHEN i > total * 0.97 OR i %% 200 = 1 THEN 'pending'
             ELSE 'succeeded' END AS state
    FROM (SELECT i, total, now() - (total - i) * interval '7 days' / total AS moment
          FROM generate_series(1, %s) AS i, (SELECT %s AS total) AS sizes) AS numbered
"""

#: Column → its expression over a row of `SOURCE`.
OUTCOMES = {
    "id": "id",
    "task_name": "task_name",
    "queue": "queue",
    "state": "state",
    "reason": "CASE WHEN state = 'failed' THEN 'retries_exhausted' ELSE '' END",
    "args_json": "'[' || i || ']'",
    "kwargs_json": """'{"order_id": ' || i || '}'""",
    "result_json": "CASE WHEN state = 'succeeded' THEN '200' END",
    "error": "CASE WHEN state = 'failed' THEN 'HTTP 503 from the service: busy' ELSE '' END",
    "idempotency_key": "CASE WHEN i %% 5 = 2 THEN 'prepay:' || i END",
    "run_at": "CASE WHEN state = 'pending' AND i %% 3 = 0 THEN moment + interval '1 year'"
    " ELSE moment END",
    "announce_at": "moment + interval '10 minutes'",
    "announced": "1",
    "attempt": "CASE state WHEN 'failed' THEN 3 WHEN 'pending' THEN 0 ELSE 1 END",
    "fence": "3",
    "max_attempts": "3",
    "finish_fence": "CASE WHEN state IN ('failed', 'succeeded') THEN 3 END",
    "lease_until": "CASE WHEN state = 'running' THEN now() + interval '1 hour' END",
    "claimed_at": "CASE WHEN state = 'running' THEN now() - interval '1 minute' END",
    "worker": "CASE WHEN state = 'pending' THEN '' ELSE 'worker@hangar-' || i %% 9 || '#1/2' END",
    "created_at": "moment",
    "started_at": "CASE WHEN state <> 'pending' THEN moment END",
    "finished_at": "CASE WHEN state NOT IN ('pending', 'running') THEN"
    " moment + interval '1 second' * (0.1 + i %% 40 / 10.0) END",
    "request_id": "request_id",
    "root_id": "id",
    "progress_done": "CASE WHEN state = 'running' THEN i %% 100 END",
    "progress_total": "CASE WHEN state = 'running' THEN 100 END",
}

#: Three attempts of what failed, one of what succeeded.
RUNS = """
    SELECT outcome.*, number FROM tasks_app_outcome AS outcome
    CROSS JOIN LATERAL generate_series(1, CASE state WHEN 'failed' THEN 3 ELSE 1 END) AS number
    WHERE state IN ('failed', 'succeeded') ORDER BY finished_at
"""
ATTEMPTS = {
    "outcome_id": "id",
    "number": "number",
    "fence": "number",
    "state": "CASE WHEN state = 'failed' AND number < 3 THEN 'retried' ELSE state END",
    "worker": "worker",
    "due_at": "run_at",
    "started_at": "run_at + interval '1 millisecond' * (hashtext(id::text) & 255)",
    "finished_at": "finished_at",
    "error_type": "CASE WHEN state = 'failed' THEN 'dispatch.Unreachable' ELSE '' END",
    "error": "error",
    "traceback": "CASE WHEN state = 'failed' THEN repeat('  File \"weather.py\", line 3\n', 40)"
    " ELSE '' END",
    "log": "CASE WHEN state = 'failed' THEN repeat('asking for the weather\n', 20) ELSE '' END",
}

FAILED = "SELECT * FROM tasks_app_outcome WHERE state = 'failed'"
CAUSES = {
    "outcome_id": "id",
    "fingerprint": "md5((hashtext(id::text) & 63)::text || task_name)",
    "task_name": "task_name",
    "error_type": "'dispatch.Error' || (hashtext(id::text) & 7)",
    "place": "'example_project.dispatch.helpers.f' || (hashtext(id::text) & 63)",
    "failed_at": "finished_at",
}

REQUESTS = """
    SELECT request_id, min(created_at) AS began FROM tasks_app_outcome GROUP BY request_id
"""
WEB_REQUESTS = {
    "request_id": "request_id",
    "method": "'POST'",
    "route": "'start'",
    "status": "302",
    "started_at": "began - interval '20 milliseconds'",
    "finished_at": "began + interval '90 milliseconds'",
}

PAID = "SELECT * FROM tasks_app_outcome WHERE task_name = 'dispatch.prepay_fuel'"
SUBJECTS = {
    "outcome_id": "id",
    "model": "'dispatch.flight'",
    "object_pk": "(hashtext(id::text) & 1023)::text",
}

#: Periodic jobs, each with so many slots.
JOBS, SLOTS = 10_000, 30

JOBS_MADE = """
    SELECT 'job ' || lpad(i::text, 5, '0') AS name, %s AS crontab
    FROM generate_series(1, %s) AS i
"""
ENTRIES = {
    "name": "name",
    "task": f"'{TASK}'",
    "crontab_id": "crontab",
    "enabled": "true",
    "one_off": "false",
    "args": "'[]'",
    "kwargs": "'{}'",
    "headers": "'{}'",
    "total_run_count": "0",
    "date_changed": "now()",
    "description": "''",
}

JOB = "SELECT * FROM django_celery_beat_periodictask"
TIMERS = {
    "entry_id": "id",
    "name": "name",
    "next_at": "now() + interval '1 hour'",
    "due_at": "now() + interval '1 hour'",
}

FIRED = """
    SELECT entry_id, entry.name, number, outcome.id AS outcome
    FROM (SELECT id, row_number() OVER () AS place FROM tasks_app_outcome LIMIT %s) AS outcome
    JOIN LATERAL (SELECT place %% 10000 AS job, place / 10000 AS number) AS put ON true
    JOIN (SELECT *, row_number() OVER () - 1 AS job FROM tasks_app_timer) AS entry USING (job)
"""
DECIDED = {
    "entry_id": "entry_id",
    "slot_at": "date_trunc('hour', now()) - interval '1 hour' * (number + 1)",
    "decided_at": "date_trunc('hour', now()) - interval '1 hour' * (number + 1)",
    "name": "name",
    "decision": "CASE WHEN number %% 9 = 8 THEN 'missed' ELSE 'fired' END",
    "outcome_id": "CASE WHEN number %% 9 <> 8 THEN outcome END",
}


def run(rows: int, rounds: int, only: Sequence[str]) -> None:
    """Fill the tables, take stock and ask for each page; exit with 1 where one is too slow."""
    with PostgreSQL() as database, tempfile.TemporaryDirectory() as folder:
        os.environ.update(
            DJANGO_SETTINGS_MODULE="example_project.settings",
            DATABASE_URL=database.url,
            DISPATCH_DATA=folder,
            DISPATCH_LOG_LEVEL="ERROR",
        )
        django.setup()
        call_command("migrate", verbosity=0)
        try:
            facts = fill(rows)
            slow = measure(facts, rounds, only)
        finally:
            connection.close()
    if slow:
        sys.exit("too slow: " + ", ".join(slow))


def fill(rows: int) -> Mapping[str, str]:
    """Make the rows, take stock, and return what the pages are asked for with."""
    tables: Any = import_module("tasks_app.models")
    stock: Any = import_module("tasks_app.stock")
    scene: Any = import_module("tests.console.scene")
    now = import_module("django.utils.timezone").now()

    def make() -> None:
        insert(tables.Outcome, OUTCOMES, SOURCE, rows, rows)
        insert(tables.Attempt, ATTEMPTS, RUNS)
        insert(tables.Cause, CAUSES, FAILED)
        insert(tables.WebRequest, WEB_REQUESTS, REQUESTS)
        insert(tables.Subject, SUBJECTS, PAID)
        make_jobs(tables)
        scene.write_processes(now)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")

    print(f"{rows:,} outcomes made in {milliseconds(make) / 1000:,.0f} s", flush=True)
    tables.Stock.objects.create(pk=stock.ROW)
    print(f"first stock taken in {milliseconds(stock.take) / 1000:,.1f} s", flush=True)
    return facts_of(tables)


def make_jobs(tables: Any) -> None:
    """Make periodic jobs with their timers and slots."""
    beat: Any = import_module("django_celery_beat.models")
    hourly = beat.CrontabSchedule.objects.create(minute="0")
    insert(beat.PeriodicTask, ENTRIES, JOBS_MADE, hourly.pk, JOBS)
    insert(tables.Timer, TIMERS, JOB)
    insert(tables.Slot, DECIDED, FIRED, JOBS * SLOTS)


def facts_of(tables: Any) -> Mapping[str, str]:
    """Return rows of each kind, and the names that they have in common."""
    newest = tables.Outcome.objects.order_by("-id")
    kinds = {
        "outcome": "succeeded",
        "refused": "failed",
        "running": "running",
        "retrying": "pending",
    }
    found = {name: str(newest.filter(state=state)[0].pk) for name, state in kinds.items()}
    failed = tables.Cause.objects.latest("failed_at")
    bulk = tables.BulkAction.objects.create(
        action="replay",
        selection_json='{"states": ["failed"]}',
        user_pk="1",
        username="ada",
        total=9,
        last_id=failed.pk,
    )
    return {
        **found,
        "task": TASK,
        "queue": QUEUE,
        "request": newest[0].request_id,
        "fingerprint": failed.fingerprint,
        "bulk": str(bulk.pk),
        "schedule": str(tables.Timer.objects.latest("name").pk),
    }


def measure(facts: Mapping[str, str], rounds: int, only: Sequence[str]) -> list[str]:
    """Ask for each page as a superuser, tell what it costs, and return those that are too slow."""
    table: Any = import_module("tests.console.pages")
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("ada"))
    slow = []
    print(f"{'page':44} {'median':>9} {'longest':>9} {'statements':>10}  slowest statement")
    for page in (*table.PAGES, *table.LISTS):
        if page.name in only if only else page.is_measured:
            median, statements = ask(client, page, page.address(facts), rounds)
            if median > LONGEST:
                slow.append(f"{page} ({median:.0f} ms)")
            if statements > MOST.get(page.name, statements):
                slow.append(f"{page} ({statements} statements)")
    return slow


def ask(client: Client, page: Any, address: str, rounds: int) -> tuple[float, int]:
    """Tell what a page costs; return its median and the number of its statements."""
    response = client.get(address)
    if response.status_code != OK:
        sys.exit(f"{address} answered {response.status_code}")
    with CaptureQueriesContext(connection) as captured:
        client.get(address)
    # The next request forgets them.
    statements = len(captured)
    slowest = max(captured.captured_queries, key=lambda query: float(query["time"]))
    asked: Callable[[], object] = lambda: client.get(address)  # noqa: E731 - it needs no name
    times = [milliseconds(asked) for _ in range(rounds * 2)]
    median = statistics.median(times)
    print(
        f"{page.name:44} {median:6.0f} ms {max(times):6.0f} ms {statements:10}"
        f"  {float(slowest['time']) * 1000:.0f} ms {slowest['sql'][:TOLD]}",
        flush=True,
    )
    return median, statements
