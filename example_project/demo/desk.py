"""The demo once Django is set up: prepare the database, start a job, follow it, sum it up.

All of it runs in the supervisor's process and looks at the desk from outside: through the
database, the page and the services' journals.
"""

import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import DatabaseError, connection
from kombu import Connection
from kombu.exceptions import KombuError
from kombu.utils.url import maybe_sanitize_url

from example_project.demo.audit import Line, audit
from example_project.demo.programs import Program, say
from example_project.demo.supervisor import DemoError, Supervisor, answers
from example_project.dispatch.board import board
from example_project.dispatch.helpers import airports_csv, webhooks
from example_project.dispatch.helpers.airports_csv import BadFile
from example_project.dispatch.jobs import start_job
from example_project.dispatch.models import Job

#: Seconds without any progress after which a job is given up.
STALL = 120.0
#: Seconds between two lines about a job's progress.
TALK = 3.0


def prepare(*, clean: bool) -> None:
    """Migrate the database; with ``clean``, empty the tables that a job writes.

    Raises:
        DemoError: The database cannot be reached or changed.
    """
    try:
        say("demo", 37, f"migrating {connection.vendor}: {connection.settings_dict['NAME']}")
        refuse_narrow_text()
        call_command("migrate", interactive=False, verbosity=0)
        if clean:
            empty_tables()
        webhooks.register_subscribers()
    except (DatabaseError, ImproperlyConfigured) as error:
        raise DemoError(f"The database cannot be used: {error}") from error


def reach_broker(url: str) -> None:
    """Connect to a broker once, so that a wrong address is told before anything waits for it.

    Raises:
        DemoError: The broker cannot be reached, or its client library is missing.
    """
    try:
        with Connection(url, connect_timeout=5) as broker:
            broker.ensure_connection(max_retries=1, timeout=10)
    except (KombuError, OSError, KeyError, ImportError) as error:
        raise DemoError(f"The broker {maybe_sanitize_url(url)} cannot be used: {error}") from error


def refuse_narrow_text() -> None:
    """Refuse a MariaDB database that cannot store the names of all airports.

    Raises:
        DemoError: Its character set is not utf8mb4.
    """
    if connection.vendor != "mysql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@character_set_database")
        (character_set,) = cursor.fetchone()
    if character_set != "utf8mb4":
        name = connection.settings_dict["NAME"]
        raise DemoError(
            f"The database {name} stores text as {character_set}, which lacks most letters. "
            f"Empty it and say: ALTER DATABASE `{name}` CHARACTER SET utf8mb4"
        )


def empty_tables() -> None:
    """Delete every row of the dispatch desk and every outcome."""
    labels = ("dispatch", "tasks_app")
    models = [model for label in labels for model in apps.get_app_config(label).get_models()]
    tables = [model._meta.db_table for model in models]
    say("demo", 31, f"--once starts clean: emptying {len(tables)} tables of {', '.join(labels)}")
    statements = connection.ops.sql_flush(no_style(), tables, allow_cascade=True)
    connection.ops.execute_sql_flush(statements)


def reset_demo_user() -> str:
    """Create the admin login "demo", or give it a new password; return the password."""
    users = get_user_model().objects
    user, _ = users.get_or_create(username="demo")
    password = secrets.token_urlsafe(9)
    user.set_password(password)
    user.is_staff = user.is_superuser = True
    user.save()
    return password


def open_desk(supervisor: Supervisor, port: int, flower_port: int) -> Program:
    """Start the desk's processes, wait for the page, and return the worker."""
    password = reset_demo_user()
    worker = supervisor.run_desk(port, flower_port)
    page = f"http://127.0.0.1:{port}/"
    supervisor.wait_for("the page", lambda: answers(f"{page}state.json"))
    lines = (
        "",
        f"  page    {page}",
        f"  admin   {page}admin/   login demo, password {password}",
        f"  Flower  http://127.0.0.1:{flower_port}/",
        f"  mails   {supervisor.data / 'mailbox'}",
        "",
        "  Ctrl+C stops everything.",
        "",
    )
    print("\n".join(lines), flush=True)
    return worker


def is_new() -> bool:
    """Tell whether no job was ever started here: whoever comes to look shall see work."""
    return not Job.objects.exists()


def begin(table: bytes | None, source: str, seed: int) -> Job:
    """Start a job over an input file, or over the bundled airports.

    Raises:
        DemoError: The input is not a table of airports.
    """
    try:
        job = start_job(table, source, seed)
    except BadFile as error:
        raise DemoError(f"{source} cannot be imported. {error}") from error
    say("demo", 37, f"started {job}")
    return job


def stay(supervisor: Supervisor) -> None:
    """Keep the desk open until somebody stops it."""
    while True:
        supervisor.watch()
        supervisor.pause(0.5)


def follow(supervisor: Supervisor) -> None:
    """Tell how the latest job goes on until it has ended.

    Raises:
        DemoError: Nothing has moved for a long time.
    """
    seen, seen_at, told_at = -1, time.monotonic(), 0.0
    while True:
        supervisor.watch()
        view = board()
        now = time.monotonic()
        is_over = view["done"] == view["all"] and view["all"] > 0
        if now - told_at > TALK or is_over:
            told_at = now
            states = ", ".join(
                f"{count} {state}" for state, count in view["states"].items() if count
            )
            say("demo", 37, f"{view['job']['stage']}: {states}")
        if is_over:
            return
        if view["done"] != seen:
            seen, seen_at = view["done"], now
        if now - seen_at > STALL:
            raise DemoError(f"Nothing has moved for {STALL:.0f} s. State: {view['states']}")
        supervisor.pause(0.5)


def sum_up(job: Job, table: bytes | None, folder: Path, kills: int, seconds: float) -> int:
    """Print the totals of a finished job and return 0 if all are right, else 1."""
    lines = audit(job, airports_csv.bundled() if table is None else table, folder)
    print(f"\n{'total':<26}{'counted':>9}{'expected':>10}")
    print("─" * 50)
    for line in lines:
        expected = "" if line.expected is None else line.expected
        verdict = "" if line.expected is None else "✓" if line.is_right else "✗ WRONG"
        print(f"{line.label:<26}{line.counted:>9}{expected:>10}  {verdict}")
    print("─" * 50)
    print(f"{'kills':<26}{kills:>9}\n{'seconds':<26}{seconds:>9.1f}")
    for failure in board()["failures"]:
        print(f"failed: {failure['task']} ({failure['reason']}): {failure['error']}")
    wrong = [line for line in lines if not line.is_right]
    print(_conclusion(wrong), flush=True)
    return 1 if wrong else 0


def _conclusion(wrong: Sequence[Line]) -> str:
    if not wrong:
        return "\nEverything adds up."
    return "\nWrong: " + "; ".join(
        f"{line.label} is {line.counted}, not {line.expected}" for line in wrong
    )
