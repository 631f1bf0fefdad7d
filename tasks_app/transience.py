"""
Database errors that say "again", not "wrong": deadlocks, serialization failures, busy SQLite.

An atomic helper whose transaction ended in one of these has changed nothing, so running it again
is safe and costs no attempt.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import Error as DatabaseFailure
from django.db import InterfaceError, OperationalError, connections

from tasks_app.conf import conf

#: PostgreSQL: serialization_failure, deadlock_detected, lock_not_available.
SQLSTATES = frozenset({"40001", "40P01", "55P03"})
#: MariaDB: lock wait timeout, deadlock, record changed since last read.
MARIADB_CODES = frozenset({1205, 1213, 1020})


class PlanLost(OperationalError):
    """A statement that this app had prepared is gone, and with it the transaction that ran it."""


def is_transient(error: DatabaseFailure) -> bool:
    """Tell whether the same transaction may well succeed when it is run again."""
    cause = error.__cause__
    if isinstance(error, PlanLost):
        return True
    if getattr(cause, "sqlstate", None) in SQLSTATES:
        return True
    if cause is not None and cause.args and cause.args[0] in MARIADB_CODES:
        return True
    return isinstance(error, OperationalError) and "database is locked" in str(error)


def is_lost_connection(error: DatabaseFailure, alias: str, used: Any) -> bool:
    """
    Tell whether the error came with the loss of the connection.

    Args:
        error: What a statement or a COMMIT raised.
        alias: The database.
        used: The driver's connection then. Django has often opened another one since: it does so
            at the end of every `atomic` block whose connection broke.
    """
    connection = connections[alias]
    if connection.connection is None or connection.connection is not used:
        return isinstance(error, InterfaceError | OperationalError)
    return not connection.is_usable()


@contextmanager
def pessimistic(*, wanted: bool = True) -> Iterator[None]:
    """
    Take SQLite's write lock at BEGIN for the block, if wanted.

    A transaction that reads first and writes later fails at once when another writer came
    between (SQLITE_BUSY_SNAPSHOT), whatever the timeout. A helper's first run is optimistic, since
    a lock from BEGIN on would stop every other writer for as long as the helper takes.
    """
    connection: Any = connections[conf.DATABASE]  # only SQLite's has a transaction mode
    if not wanted or connection.vendor != "sqlite":
        yield
        return
    connection.ensure_connection()
    before, connection.transaction_mode = connection.transaction_mode, "IMMEDIATE"
    try:
        yield
    finally:
        connection.transaction_mode = before
