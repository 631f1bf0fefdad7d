"""
How long the relay sleeps: until somebody may have enqueued, or the fallback poll is due.

Wake-ups are latency only; with all of them off, everything still runs. SQLite: a change of the
database file or its write-ahead log. Elsewhere: a short poll that grows while nothing happens.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from django.db import connections

from tasks_app.conf import conf

#: First wait after work was found, in seconds; it doubles up to `RELAY_INTERVAL`.
SHORTEST = 0.01


class Wakeup:
    """Waits between two looks at the outbox."""

    def __init__(self) -> None:
        self._wait = SHORTEST
        self._files = _sqlite_files()
        self._seen = self._stamp()

    def before_look(self) -> None:
        """Remember what the database looked like before the look that follows."""
        self._seen = self._stamp()

    def wait(self, is_stopped: Callable[[], bool], *, found: bool) -> None:
        """
        Sleep until something may be due; only a moment after work was found.

        The moment gathers what comes one by one: a look costs as much for a row as for many.
        """
        longest = conf.RELAY_INTERVAL.total_seconds()
        self._wait = SHORTEST if found else min(self._wait * 2, longest)
        if found:
            time.sleep(SHORTEST)
            return
        deadline = time.monotonic() + (longest if self._files else self._wait)
        while time.monotonic() < deadline and not is_stopped():
            if self._files and self._stamp() != self._seen:
                self._wait = SHORTEST
                return
            time.sleep(min(SHORTEST, max(deadline - time.monotonic(), 0)))

    def _stamp(self) -> tuple[int, ...]:
        stamps = []
        for path in self._files:
            try:
                stat = os.stat(path)  # noqa: PTH116 - twice in ten milliseconds, all day long
            except FileNotFoundError:
                stamps += [0, 0]
            else:
                stamps += [stat.st_mtime_ns, stat.st_size]
        return tuple(stamps)


def _sqlite_files() -> list[str]:
    connection = connections[conf.DATABASE]
    name = str(connection.settings_dict["NAME"])
    if connection.vendor != "sqlite" or not Path(name).exists():
        return []
    return [name, f"{name}-wal"]
