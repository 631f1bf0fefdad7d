"""
Turns: the outcomes of one message's peal, taken one after the other by one process.

Each is claimed just before its helper begins, with the commit that ends the one before, so none is
`running` that does not run. What has not begun when a fifth of a second is over, or when the
worker stops, comes due again at once and is rung for alone: nothing waits behind a long run.
"""

import logging
import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connections, transaction

from tasks_app import outbox, outcomes
from tasks_app.conf import conf
from tasks_app.exceptions import LeaseLost
from tasks_app.leases import Lease
from tasks_app.models import Outcome, outcome_uuid
from tasks_app.shapes import PEAL

logger = logging.getLogger(__name__)

#: Seconds after which nothing of a peal begins any more.
SPAN = 0.2

#: Name under which a request has the turns that it is one of.
TURNS = "tasks_app_turns"

#: Celery's tracer of a task: id, positional and keyword arguments, request.
Trace = Callable[..., Any]


class ThisWorker:
    """What the processes of one worker know of it together."""

    def __init__(self) -> None:
        # Forked children see what is written here.
        self._is_stopping = mmap.mmap(-1, 1)
        #: The pool counts messages, to replace a process after so many.
        self.counts_messages = False

    def start(self, *, counts_messages: bool) -> None:
        """Note that the worker starts; called once in its main process, before any fork."""
        self._is_stopping[0] = 0
        self.counts_messages = counts_messages

    def stop(self) -> None:
        """Let all processes of this worker begin nothing more of their peals."""
        self._is_stopping[0] = 1

    @property
    def is_stopping(self) -> bool:
        return bool(self._is_stopping[0])


this_worker = ThisWorker()


class Turns:
    """The rest of one peal, and who is next."""

    def __init__(self, rest: Sequence[Mapping[str, Any]]) -> None:
        self.began = time.monotonic()
        self._rest = deque(rest)
        self._drawn: Mapping[str, Any] | None = None
        self._claimed: Outcome | None = None
        self._lock = threading.Lock()

    @property
    def is_over(self) -> bool:
        return this_worker.is_stopping or time.monotonic() - self.began >= SPAN

    def draw(self) -> UUID | None:
        """Return the outcome that is to be claimed with the success of the one that runs."""
        with self._lock:
            if self._drawn is None and self._rest and not self.is_over:
                self._drawn = self._rest.popleft()
        return None if self._drawn is None else outcome_uuid(self._drawn["id"])

    def keep(self, claimed: Outcome | None) -> None:
        """Keep what that claim returned; called once it is committed."""
        self._claimed = claimed

    def take(self, outcome_id: Any) -> Outcome | None:
        """Return the outcome that was claimed ahead, once, if it is the one that is asked for."""
        claimed, self._claimed = self._claimed, None
        if claimed is not None and str(claimed.id) != str(outcome_id):
            self._claimed, claimed = claimed, None
        return claimed

    def next(self) -> Mapping[str, Any] | None:
        """Return the headers of whose turn it is; None when nothing more is to begin here."""
        self.draw()
        drawn, self._drawn = self._drawn, None
        return drawn

    def waiting(self) -> list[UUID]:
        """Return the outcomes that nobody has drawn."""
        with self._lock:
            return _ids(self._rest)

    def hand_back(self) -> None:
        """Make due at once what has not begun; where the database is away, it comes due later."""
        with self._lock:
            left, self._rest = self._rest, deque()
        _recall(_ids(left))

    @contextmanager
    def until_the_end(self) -> Iterator[None]:
        """Leave nothing behind, however the block ends."""
        try:
            yield
        finally:
            self._release()
            self.hand_back()

    def _release(self) -> None:
        """Give back what was claimed ahead and will not run here."""
        if self._claimed is None:
            return
        try:
            with transaction.atomic(using=conf.DATABASE):
                outcomes.release(Lease.of(self._claimed))
        except (DatabaseError, LeaseLost) as error:
            logger.warning("%s is left to the rescuer: %s", self._claimed, type(error).__name__)


class Watch:
    """One thread per worker process that hands back what waits behind a long run."""

    def __init__(self) -> None:
        self._turns: dict[int, Turns] = {}
        self._wanted = threading.Event()
        self._pid = 0

    @contextmanager
    def over(self, turns: Turns) -> Iterator[None]:
        """Watch over a peal for the length of the block."""
        self._ensure_thread()
        self._turns[id(turns)] = turns
        self._wanted.set()
        try:
            yield
        finally:
            del self._turns[id(turns)]

    def _ensure_thread(self) -> None:
        # A forked child inherits the attributes but not the thread.
        if self._pid != os.getpid():
            self._pid, self._wanted = os.getpid(), threading.Event()
            threading.Thread(target=self._work, name="tasks_app-turns", daemon=True).start()

    def _work(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            try:
                self._watch()
            except Exception:
                logger.exception("The watch over peals stumbled; it goes on")

    def _watch(self) -> None:
        while watched := [each for each in list(self._turns.values()) if each.waiting()]:
            late = [each for each in watched if each.is_over]
            for turns in late:
                turns.hand_back()
            if late:
                connections[conf.DATABASE].close()
            else:
                time.sleep(SPAN - min(time.monotonic() - min(each.began for each in watched), SPAN))


watch = Watch()


def in_turn(trace: Trace) -> Trace:
    """Return a task's tracer that goes on with the rest of its message's peal."""

    def trace_each(uuid: Any, args: Any, kwargs: Any, request: Any = None) -> Any:
        rest = (request or {}).pop(PEAL, None)
        if not rest:
            return trace(uuid, args, kwargs, request)
        turns = Turns(rest)
        request[TURNS] = turns
        with watch.over(turns), turns.until_the_end():
            # Celery's main process knows the message by its own outcome: that one's end is told.
            told = trace(uuid, args, kwargs, dict(request))
            while (headers := turns.next()) is not None:
                own = {**headers, "correlation_id": headers["id"]}
                trace(headers["id"], args, kwargs, {**request, **own})
        return told

    return trace_each


def hand_back(rest: Sequence[Mapping[str, Any]]) -> None:
    """Make due at once what a peal rings for beside its own outcome, and nobody has claimed."""
    _recall(_ids(rest))


def _ids(rest: Sequence[Mapping[str, Any]] | deque[Mapping[str, Any]]) -> list[UUID]:
    return [pk for headers in rest if (pk := outcome_uuid(headers["id"])) is not None]


def _recall(ids: list[UUID]) -> None:
    try:
        if ids:
            outbox.recall(ids)
    except DatabaseError as error:
        connections[conf.DATABASE].close()
        logger.warning("%d outcomes wait for their next announcement: %s", len(ids), error)
