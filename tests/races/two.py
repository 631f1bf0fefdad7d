"""Two acts at once, each in a thread and on a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import Error, connection, connections, transaction

from tasks_app.exceptions import LeaseLost
from tasks_app.transience import is_transient
from tests.waiting import wait_until

T = TypeVar("T")

#: Seconds that anything may take on a busy machine.
PATIENCE = 30


def at_once(*acts: Callable[[], T]) -> Sequence[T]:
    """Start acts at the same moment and return their results in order."""
    start = threading.Barrier(len(acts))

    def do(act: Callable[[], T]) -> T:
        connection.ensure_connection()
        start.wait(PATIENCE)
        try:
            return act()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(do, acts))


def one_inside_the_other(first: Callable[[], T], second: Callable[[], T]) -> Sequence[T]:
    """
    Do an act, and commit it only when the second one waits for its lock or has ended.

    Both results are returned. Not for SQLite, which shows nobody who waits for its lock.
    """
    done = threading.Event()

    def do_second() -> T:
        try:
            return second()
        finally:
            done.set()
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            result = first()
            other = thread.submit(do_second)
            wait_until(lambda: done.is_set() or somebody_waits(), PATIENCE, "the second act")
        return [result, other.result(PATIENCE)]


def somebody_waits() -> bool:
    """Return whether some transaction waits for a lock that another one holds."""
    # Not `innodb_trx`: who reads that more often than every 100 ms reads the same again.
    statement = {
        "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
        "mysql": "SELECT variable_value FROM information_schema.global_status "
        "WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0]) > 0


def wins(act: Callable[[], object]) -> bool:
    """Return whether an act hit its row."""
    try:
        return done(act) not in (None, False)
    except LeaseLost:
        return False


def done(act: Callable[[], T]) -> T:
    """
    Do an act in a transaction and return its result.

    A deadlock or a busy database changed nothing, so the act is tried again, as its callers do.
    """
    while True:
        try:
            with transaction.atomic():
                return act()
        except Error as error:
            if not is_transient(error):
                raise
