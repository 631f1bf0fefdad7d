"""
The relay: takes due rows, commits, and only then rings for them at the broker.

Any number of relays may run, inside workers and alone. One that dies between commit and publish
costs the wait until the rows come due again; one that dies after the publish costs nothing.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar
from uuid import UUID

from celery import Celery
from django.db import DatabaseError

from tasks_app import outbox, rescue, signals
from tasks_app.broker import BrokerDown, Publisher
from tasks_app.conf import conf
from tasks_app.crash_points import crash_point
from tasks_app.forks import database_section
from tasks_app.models import Outcome
from tasks_app.options import declared
from tasks_app.peals import Sizes
from tasks_app.retry import RetryPolicy
from tasks_app.roll_call import RollCall
from tasks_app.wakeups import Wakeup

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Rows per look at the outbox.
BATCH = 500

#: Waits for a broker or database that is down.
BACKOFF = RetryPolicy(initial=0.5, maximum=5)

#: Shortest of these waits, in seconds: a jittered one may be none.
SHORTEST_WAIT = 0.1


@dataclass(frozen=True, slots=True)
class Counts:
    """What one look of the relay did."""

    announced: int = 0
    unanswered: int = 0
    expired: int = 0
    given_up: int = 0
    #: Whether rows are due whose queue is full.
    is_held_back: bool = False

    @property
    def found(self) -> int:
        return self.announced + self.expired + self.given_up

    @property
    def found_more(self) -> bool:
        """Tell whether there may be more work than one look takes."""
        return self.announced >= BATCH


class Relay:
    """One relay: `run_once` for tests and tools, `run` for a thread or a process."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.sizes = Sizes()
        self.publisher = Publisher(app, self.sizes)
        self.housekeeper = rescue.Housekeeper(app)
        self.roll_call = RollCall()
        self._broken: dict[str, int] = {}
        #: When the last look began, on this process' clock.
        self.turned_at = time.monotonic()
        #: When the last look at everything was, how many rows were rung for by name since then, and
        #: whether it left nothing behind.
        self._looked_at, self._named, self._has_room = 0.0, 0, False
        self._stopping = threading.Event()

    def run_once(self) -> Counts:
        """
        Take one batch of due rows and ring for each.

        Returns:
            The counts; `unanswered` are rows put back because the broker did not take them.

        Raises:
            django.db.DatabaseError: the database is away; nothing was taken.
        """
        with database_section(conf.DATABASE, keep=True):
            batch = outbox.take_due(BATCH, declared.keys(), self.sizes.of_queue)
        self._tell(batch)
        return replace(
            self._rung(batch.rows),
            expired=len(batch.expired),
            given_up=len(batch.given_up),
            is_held_back=batch.is_held_back,
        )

    def run(self) -> None:
        """Look, ring and wait until `stop` is called."""
        with Wakeup() as wakeup:
            while not self._stopping.is_set():
                try:
                    self._turn(wakeup)
                except Exception:
                    logger.exception("The relay stumbled; it goes on")
                    self._stopping.wait(BACKOFF.initial.total_seconds())
        self.publisher.close()

    def stop(self) -> None:
        """Let `run` return after the look in progress."""
        self._stopping.set()

    def _turn(self, wakeup: Wakeup) -> None:
        self.turned_at = time.monotonic()
        named = wakeup.before_look()
        look = partial(self._look_at, named) if self._may_look_at(named) else self._look
        counts = self._attempt("database", look) or Counts()
        if self._broken:
            self._stopping.wait(self._backoff())
        elif not counts.found_more:
            wakeup.wait(self._stopping.is_set, found=counts.found, is_held_back=counts.is_held_back)

    def _look(self) -> Counts:
        self.housekeeper.run_if_due()
        self._call_roll()
        self._looked_at, self._named = time.monotonic(), 0
        counts = self.run_once()
        self._has_room = not (counts.is_held_back or counts.found_more)
        return counts

    def _may_look_at(self, named: list[UUID]) -> bool:
        """Tell whether it is enough to ring for a few rows, until the next look at everything."""
        is_fresh = time.monotonic() - self._looked_at < conf.RELAY_INTERVAL.total_seconds()
        has_room = self._has_room and self._named + len(named) <= conf.MAX_IN_FLIGHT // 2
        return bool(named) and is_fresh and has_room and not self._broken

    def _look_at(self, named: list[UUID]) -> Counts:
        """Ring for a few rows that somebody has just committed."""
        with database_section(conf.DATABASE, keep=True):
            rows = outbox.take_named(named)
        self._named += len(rows)
        return self._rung(rows)

    def _call_roll(self) -> None:
        """Make rows due whose messages the broker has lost, if it is time to look for them."""
        waiting = self.roll_call.waiting()
        if not waiting:
            return
        messages = self._attempt("broker", lambda: self.publisher.messages(waiting))
        if messages is None:
            self.roll_call.distrust()
        else:
            self.roll_call.compare(waiting, messages)

    def _rung(self, rows: list[Outcome]) -> Counts:
        """Ring for rows, or make them due again if the broker does not take them."""
        if not rows or self._ring(rows):
            return Counts(announced=len(rows))
        crash_point("relay.before_put_back")
        with database_section(conf.DATABASE, keep=True):
            outbox.put_back([row.pk for row in rows])
        return Counts(unanswered=len(rows))

    def _ring(self, rows: list[Outcome]) -> bool:
        """Ring for rows; tell whether the broker took them all."""
        crash_point("relay.after_take")
        if self._attempt("broker", lambda: self.publisher.ring(rows)) is None:
            self.roll_call.distrust()
            return False
        crash_point("relay.after_publish")
        if signals.announced.has_listeners():
            for row in rows:
                signals.announced.send_robust(Outcome, outcome=row)
        return True

    def _attempt(self, part: str, act: Callable[[], T]) -> T | None:
        """
        Do an act, or return None if its part of the world is away.

        Logs once when it goes away and once when it is back.
        """
        try:
            done = act()
        except (BrokerDown, DatabaseError) as error:
            if part not in self._broken:
                logger.warning("The relay lost its %s; waiting: %s", part, error)
            self._broken[part] = self._broken.get(part, 0) + 1
            return None
        if self._broken.pop(part, None):
            logger.info("The relay has its %s back", part)
        return done

    def _backoff(self) -> float:
        wait = BACKOFF.delay(max(self._broken.values()))
        return max(SHORTEST_WAIT, wait.total_seconds())

    def _tell(self, batch: outbox.Batch) -> None:
        for row in batch.expired:
            signals.expired.send_robust(Outcome, outcome=row)
        for row in batch.given_up:
            signals.failed.send_robust(Outcome, outcome=row, error=None)
