"""
How long the relay sleeps: until somebody may have enqueued, or the fallback poll is due.

Wake-ups are latency only; with all of them off, everything still runs. Who enqueues on the same
host says so to the relay's socket. SQLite: a change of the database file or its write-ahead log,
too. And for all others, a short poll that grows while nothing happens.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self
from uuid import UUID

from django.db import connections

from tasks_app.conf import conf
from tasks_app.wakeup_sockets import WakeupSocket

#: First wait after work was found, in seconds; it doubles up to `RELAY_INTERVAL`.
SHORTEST = 0.01

#: Longest wait while a queue is full, in seconds: what is left of `MAX_IN_FLIGHT` must last.
FULL = 0.05

#: Seconds between two looks that somebody asked for, once one of them was in vain; it doubles.
VAIN = 0.001

#: Outcomes that are rung for one by one, rather than found by a look at everything.
FEW = 3

#: Seconds within which a relay that sleeps learns that it is to stop.
HEED = 0.1


class Wakeup:
    """Waits between two looks at the outbox."""

    def __init__(self) -> None:
        self._wait = SHORTEST
        #: Seconds from the beginning of a look that nobody can shorten.
        self._spacing = 0.0
        self._looked_at = 0.0
        self._files = _sqlite_files()
        self._seen = self._stamp()
        self._socket = WakeupSocket()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def before_look(self) -> list[UUID]:
        """
        Remember what the database looked like before the look that follows.

        Returns:
            The outcomes to ring for, if that is all that was heard; empty: look at everything.
        """
        self._looked_at = time.monotonic()
        heard = self._socket.heard()
        self._seen = self._stamp()
        named = [each for each in heard if each is not None]
        return named if len(named) == len(heard) <= FEW else []

    def wait(
        self, is_stopped: Callable[[], bool], *, found: int, is_held_back: bool = False
    ) -> None:
        """
        Sleep until something may be due; only a moment after so many rows were found.

        The moment gathers what comes one by one: a look costs as much for a row as for many. After
        a lone row it is as short as the look was: whoever waits for one often enqueues the next.
        """
        if found:
            self._wait, self._spacing = SHORTEST, 0.0
            is_lone = found == 1 and not self._files
            took = time.monotonic() - self._looked_at
            time.sleep(min(SHORTEST, took) if is_lone else SHORTEST)
            return
        longest = conf.RELAY_INTERVAL.total_seconds()
        if is_held_back:
            # No word makes room.
            self._wait = min(self._wait * 2, FULL, longest)
            time.sleep(self._wait)
            return
        self._wait = min(self._wait * 2, longest)
        self._sleep(longest if self._files else self._wait, is_stopped)

    def _sleep(self, seconds: float, is_stopped: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        moment = SHORTEST if self._files else HEED
        while (left := deadline - time.monotonic()) > 0 and not is_stopped():
            if self._files and self._stamp() != self._seen:
                self._wait = SHORTEST
                return
            if self._socket.wait(min(moment, left)):
                self._answer()
                return

    def _answer(self) -> None:
        """Let a look follow, and each one that is in vain make the next one wait longer."""
        self._wait = SHORTEST
        time.sleep(max(self._looked_at + self._spacing - time.monotonic(), 0))
        self._spacing = min(max(self._spacing * 2, VAIN), SHORTEST)

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
