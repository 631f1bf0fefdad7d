"""
Probes of the outcomes' database: it answers, is new enough, migrated, and its clock is right.

All times of the protocol are the database's. A machine whose own clock differs harms no outcome,
but logs and ids then tell another story than the rows.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections
from django.db.models import Max
from django.db.models.functions import Coalesce
from django.utils import timezone

from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.doctor.findings import Verdict, fail, ok, warn
from tasks_app.models import Outcome
from tasks_app.trouble import unapplied_migrations

#: Oldest versions that have what the path needs.
OLDEST = {"PostgreSQL": (13,), "MariaDB": (10, 6), "SQLite": (3, 35)}

#: MariaDB's and MySQL's names for the isolation level of the session.
ISOLATION = ("tx_isolation", "transaction_isolation")

#: Differences between this machine's clock and the database's.
NOTABLE, INTOLERABLE = timedelta(seconds=1), timedelta(seconds=10)


def reachable() -> Verdict:
    """Connect and ask for one value."""
    connection = connections[conf.DATABASE]
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    place = connection.settings_dict
    where = f" on {place['HOST']}" if place.get("HOST") else ""
    return ok(f"{connection.display_name} {place['NAME']!s}{where} ({conf.DATABASE!r}) answers")


def version() -> Verdict:
    """Compare the version with the oldest one that has SKIP LOCKED and RETURNING where needed."""
    connection = connections[conf.DATABASE]
    name, found = _product(connection)
    text = f"{name} {'.'.join(map(str, found))}"
    if name not in OLDEST:
        return warn(f"{text} is not tested", "Use PostgreSQL, MariaDB or SQLite.")
    oldest = ".".join(map(str, OLDEST[name]))
    if found < OLDEST[name]:
        return fail(f"{text} is too old", f"Upgrade to {name} {oldest} or later.")
    features = connection.features
    if features.has_select_for_update and not features.has_select_for_update_skip_locked:
        return fail(f"{text} has no SKIP LOCKED", f"Upgrade to {name} {oldest} or later.")
    return ok(text)


def isolation() -> Verdict:
    """Look at how transactions see each other, or on SQLite how they get in each other's way."""
    connection = connections[conf.DATABASE]
    if connection.vendor == "sqlite":
        return _sqlite_journal(_value(connection, "PRAGMA journal_mode"))
    if connection.vendor == "mysql":
        level = _value(connection, f"SHOW VARIABLES WHERE Variable_name IN {ISOLATION}")
    else:
        level = _value(connection, "SHOW transaction_isolation")
    level = level.replace("-", " ").upper()
    if level == "READ COMMITTED":
        return ok(level)
    remedy = "Set DATABASES[…]['OPTIONS']: 'isolation_level' to read committed."
    if connection.vendor == "mysql":
        return fail(f"{level} hides rows that others have committed", remedy)
    return warn(f"{level} makes concurrent transactions fail", remedy)


def migrations() -> Verdict:
    """Compare the tables with this version of the app."""
    missing = unapplied_migrations()
    if missing:
        return fail(f"not applied: {', '.join(missing)}", "Run `manage.py migrate`.")
    return ok("all applied")


def clock_skew() -> Verdict:
    """Compare this machine's clock with the database's, less what the question itself took."""
    before = datetime.now(UTC)
    theirs = database_now()
    return judge_skew(before, theirs, datetime.now(UTC))


def judge_skew(before: datetime, theirs: datetime, after: datetime) -> Verdict:
    """Judge a time of the database that was asked for and given between two times of ours."""
    unsure = (after - before) / 2
    skew = theirs - (before + unsure)
    certain = max(abs(skew) - unsure, timedelta(0))
    text = f"the database's clock is {abs(skew).total_seconds():.3f} s "
    text += "ahead" if skew > timedelta(0) else "behind"
    remedy = "Synchronise both machines' clocks (NTP)."
    if certain > INTOLERABLE:
        return fail(text, remedy)
    return warn(text, remedy) if certain > NOTABLE else ok(text)


def clock_order() -> Verdict:
    """Look whether the database's clock goes forward: twice now, and since the newest row."""
    first, second = database_now(), database_now()
    newest = Outcome.objects.order_by("-pk").values_list("created_at", flat=True).first()
    remedy = "Leases count on this clock: let it be slewed, never set back."
    if second < first:
        return fail(f"the database's clock went back by {first - second}", remedy)
    if newest is not None and aware(newest) > second + NOTABLE:
        return warn(f"the newest outcome was made {aware(newest) - second} from now", remedy)
    return ok("the database's clock goes forward")


def database_now() -> datetime:
    """Return the database's time."""
    # Aggregates of no row at all: one row with an expression, read as a column would be.
    nothing = Outcome.objects.filter(pk=UUID(int=0))
    now: datetime = nothing.aggregate(now=Coalesce(Max("created_at"), DatabaseNow()))["now"]
    return aware(now)


def aware(moment: datetime) -> datetime:
    """Return a time read from the database with its zone, also where USE_TZ is False."""
    if not timezone.is_naive(moment):
        return moment
    is_local = connections[conf.DATABASE].vendor == "postgresql" and not settings.USE_TZ
    return timezone.make_aware(moment, timezone.get_default_timezone() if is_local else UTC)


def _product(connection: Any) -> tuple[str, tuple[int, ...]]:
    if connection.vendor == "sqlite":
        return "SQLite", connection.Database.sqlite_version_info
    if connection.vendor == "mysql":
        name = "MariaDB" if connection.mysql_is_mariadb else "MySQL"
        return name, tuple(connection.mysql_version)
    if connection.vendor == "postgresql":
        return "PostgreSQL", divmod(connection.pg_version, 10_000)
    return connection.display_name, connection.get_database_version()


def _sqlite_journal(mode: str) -> Verdict:
    if mode.lower() in {"wal", "memory"}:
        return ok(f"journal mode {mode}")
    return warn(
        f"journal mode {mode}: readers and the writer lock each other out",
        "Set DATABASES[…]['OPTIONS']: 'init_command' to 'PRAGMA journal_mode=WAL;'.",
    )


def _value(connection: Any, sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return str(cursor.fetchone()[-1])
