"""
Database work in a worker's main process, safe against the forks of its pool.

The prefork pool forks its children from the main process at any time. A child must not inherit a
connection in mid-use: SQLite's locks would be remembered by a process that does not hold them.
So forks wait for the section to end, and at its end SQLite's connections are closed. A
server's connection stays open in the parent; the child never touches it, and keeps the object
alive so that no destructor says goodbye to the server.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

_section = threading.RLock()
_kept: list[Any] = []


@contextmanager
def database_section(alias: str, *, keep: bool) -> Iterator[None]:
    """
    Use the database in the main process without a fork in between.

    Args:
        alias: The connection that the block uses.
        keep: Leave a server's connection open afterwards, for a thread that comes back soon.
            One on which anything failed may be dead, and is never left.
    """
    with _section:
        try:
            yield
        except BaseException:
            connections[alias].close()
            raise
        finally:
            connection = connections[alias]
            if not keep or connection.vendor == "sqlite":
                connection.close()
            elif connection.connection is not None and connection.connection not in _kept:
                _kept[:] = [*_kept[-8:], connection.connection]


def _forked() -> None:
    global _section  # noqa: PLW0603 - the child's lock must be a new one: the parent's may be held
    _section = threading.RLock()


def _before_fork() -> None:
    _section.acquire()


def _after_fork_in_parent() -> None:
    _section.release()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_forked
)
