"""
The keeper: one thread per worker process that looks after the runs in progress.

About once a second it renews leases that need it, stores progress, learns of cancel requests and
lost leases, and interrupts helpers that outstayed a limit. It has its own database connection,
and while no run is older than its tick it touches no database at all.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from django.db import DatabaseError, connections

from tasks_app import outcomes, signals
from tasks_app.conf import conf
from tasks_app.crash_points import crash_point
from tasks_app.exceptions import TaskCancelled
from tasks_app.models import Outcome
from tasks_app.runs import Run

logger = logging.getLogger(__name__)

#: Longest time between two looks at the runs, in seconds.
TICK = 1.0

#: Seconds that an interrupted helper gets before its process is killed (prefork pool only).
PATIENCE = 5.0


class Keeper:
    """Looks after the runs of this process."""

    def __init__(self) -> None:
        #: The pool enforces time limits itself and replaces a killed process: prefork.
        self.has_own_process = False
        self._runs: dict[int, Run] = {}
        self._thread: threading.Thread | None = None
        self._pid = 0

    @contextmanager
    def watching(self, run: Run) -> Iterator[None]:
        """Look after a run for the length of the block."""
        self._ensure_thread()
        self._runs[id(run)] = run
        try:
            yield
        finally:
            del self._runs[id(run)]

    def look(self) -> None:
        """Look at every run once."""
        grown = [run for run in list(self._runs.values()) if run.age >= self._tick()]
        if not grown:
            return
        for run in grown:
            self._enforce_limits(run)
        try:
            self._learn(grown)
            for run in grown:
                self._renew(run)
        except DatabaseError as error:
            logger.warning("The keeper could not reach the database: %s", error)
        finally:
            connections[conf.DATABASE].close()

    def interrupt_all(self, error: type[BaseException]) -> None:
        """Raise an exception in every helper that runs in this process."""
        for run in list(self._runs.values()):
            run.interrupt(error)

    def _tick(self) -> float:
        lease_seconds: float = conf.LEASE.total_seconds()
        return min(TICK, lease_seconds / 3)

    def _ensure_thread(self) -> None:
        # A forked child inherits the attribute but not the thread.
        if self._pid == os.getpid() and self._thread is not None and self._thread.is_alive():
            return
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._work, name="tasks_app-keeper", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._tick()):
            try:
                self.look()
            except Exception:
                logger.exception("The keeper stumbled; it goes on")

    def _learn(self, runs: list[Run]) -> None:
        answers = outcomes.cancel_requests([run.lease for run in runs])
        for run in runs:
            if run.outcome.id not in answers:
                run.is_lost = not run.is_committing
            elif answers[run.outcome.id] and run.cancel_seen is None:
                run.cancel_seen = run.age

    def _renew(self, run: Run) -> None:
        progress = run.take_progress()
        is_due = run.age - run.renewed_age >= conf.LEASE.total_seconds() / 3
        if run.is_lost or not (is_due or progress) or self._is_overdue(run):
            return
        if outcomes.renew(run.lease, progress):
            run.renewed_age = run.age
            crash_point("renew.after")
            if progress is not None and signals.progressed.has_listeners():
                signals.progressed.send_robust(Outcome, outcome=run.outcome, progress=progress)

    def _is_overdue(self, run: Run) -> bool:
        """Tell whether the hard limit has passed: such a run gets no more time."""
        return run.hard_limit is not None and run.age > run.hard_limit + PATIENCE

    def _enforce_limits(self, run: Run) -> None:
        grace = conf.CANCEL_GRACE.total_seconds()
        if run.cancel_seen is not None and run.age - run.cancel_seen >= grace:
            self._interrupt(run, TaskCancelled, since=run.cancel_seen + grace)
        elif self.has_own_process:
            return
        elif run.hard_limit is not None and run.age >= run.hard_limit:
            self._interrupt(run, TimeLimitExceeded, since=run.hard_limit)
        elif run.soft_limit is not None and run.age >= run.soft_limit and not run.is_warned:
            run.is_warned = run.interrupt(SoftTimeLimitExceeded)

    def _interrupt(self, run: Run, error: type[BaseException], since: float) -> None:
        if self.has_own_process and run.age - since > PATIENCE:
            # The helper sits in C code that no exception reaches: end its process instead.
            os.kill(os.getpid(), signal.SIGKILL)
        run.interrupt(error)


keeper = Keeper()
