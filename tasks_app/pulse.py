"""
The pulse of a long-running process: its heartbeat, its liveness file and its turn at taking stock.

A heartbeat is one UPDATE every ten seconds by a worker's main process, by a relay, or by beat as it
ticks: never by a task. The file is touched only while the process does its work, so its age tells
whether that hangs. Counting goes on in a thread of its own, since it may take a while.
"""

import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import DatabaseError

from tasks_app import signals, stock, vitals
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.forks import database_section
from tasks_app.models import Deploy, Heartbeat

logger = logging.getLogger(__name__)

#: Seconds between two touches of the file, and between two heartbeats.
TOUCH, BEAT = 3.0, 10.0

#: Environment variable that names the file where the setting does not.
VARIABLE = "TASKS_APP_LIVENESS_FILE"

#: Bytes of the pipe that are read at a time.
PIPEFUL = 65_536

#: Versions that this process has told.
_told: set[str] = set()


def beat(name: str, kind: str, about: vitals.About | None = None) -> None:
    """
    Write that a process lives and what it says of itself; a database that is away is not told.

    One UPDATE; an INSERT besides for the first time, and one for a version nobody has run before.
    """
    version = vitals.version()
    uptime = timedelta(seconds=time.monotonic() - vitals.BEGAN)
    said = {
        "kind": kind,
        "seen_at": DatabaseNow(),
        "started_at": DatabaseNow() - uptime,
        "version": version,
        "about_json": json.dumps({} if about is None else dict(about)),
    }
    try:
        with database_section(conf.DATABASE, keep=False):
            if not Heartbeat.objects.filter(pk=name).update(**said):
                Heartbeat.objects.bulk_create([Heartbeat(name=name, **said)], ignore_conflicts=True)
            _tell(version)
    except DatabaseError as error:
        logger.debug("No heartbeat: %s", error)


def _tell(version: str) -> None:
    """Write that a version is deployed, unless some process has."""
    if version and version not in _told:
        Deploy.objects.bulk_create([Deploy(version=version)], ignore_conflicts=True)
        _told.add(version)


class Drops:
    """Counts dropped messages of this process and of those that it forks, through a pipe."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signals.dropped.connect(self._count, dispatch_uid="tasks_app.pulse")

    def _count(self, **values: Any) -> None:
        try:
            # One byte is written whole, and no lock is left behind by a process that is killed.
            os.write(self._write, b"r" if values.get("is_refused") else b"u")
        except BlockingIOError:
            return

    def take(self) -> dict[str, float]:
        """Return what has come since the last time: `refused` unseen, or `unneeded`."""
        try:
            seen = Counter(os.read(self._read, PIPEFUL))
        except BlockingIOError:
            return {}
        names = {"refused": seen[ord("r")], "unneeded": seen[ord("u")]}
        return {name: float(count) for name, count in names.items() if count}


class Pulse:
    """
    The pulse of this process.

    Args:
        name: Whose; unique among all that live.
        kind: `worker` or `relay`.
        is_working: Tells whether the file may be touched.
        about: What the process says of itself, asked for each heartbeat.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        is_working: Callable[[], bool],
        about: Callable[[], vitals.About] = vitals.about,
    ) -> None:
        self.name = name
        self.kind = kind
        self.is_working = is_working
        self.about = about
        self.drops = Drops()
        self.taker = stock.StockTaker()
        self._unsaved: stock.Counts = {}
        self._next_beat = 0.0
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start both threads."""
        for act in (self.turn, self._count):
            name = f"tasks_app-{act.__name__.strip('_')}"
            threading.Thread(target=self._repeat, args=[act], name=name, daemon=True).start()

    def stop(self) -> None:
        """Let the threads end after what they do."""
        self._stopping.set()

    def turn(self) -> None:
        """Touch the file, and beat if it is time to."""
        if not self.is_working():
            return
        touch()
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT
            beat(self.name, self.kind, self.about())

    def _count(self) -> None:
        stock.merge(self._unsaved, {"dropped": self.drops.take()})
        if self._unsaved["dropped"]:
            with database_section(conf.DATABASE, keep=False):
                stock.add(self._unsaved)
            self._unsaved = {}
        self.taker.take_if_due()

    def _repeat(self, act: Callable[[], None]) -> None:
        interval = min(TOUCH, conf.METRICS_INTERVAL.total_seconds() / 3)
        while not self._stopping.wait(interval):
            try:
                act()
            except DatabaseError as error:
                logger.debug("%s waits for the database: %s", act.__name__, error)
            except Exception:
                logger.exception("The pulse stumbled; it goes on")


def touch() -> None:
    """Renew the liveness file's time, where one is wanted."""
    path = conf.LIVENESS_FILE or os.environ.get(VARIABLE)
    if path:
        with open(path, "a"):  # noqa: PTH123 - a text or a path
            os.utime(path)
