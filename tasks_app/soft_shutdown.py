"""
Soft shutdown: what a worker still runs when it is asked to end.

Celery's warm shutdown waits for its helpers without limit, until a supervisor kills the worker.
Here they get `worker_soft_shutdown_timeout` seconds; then they are interrupted and give their
outcome back, which costs no attempt; what even that does not reach is given back for them.
"""

import contextlib
import logging
import os
import signal
import threading
import time

from celery.exceptions import WorkerShutdown
from django.db import DatabaseError

from tasks_app import rescue
from tasks_app.conf import conf
from tasks_app.forks import database_section
from tasks_app.keeper import PATIENCE, keeper
from tasks_app.trouble import explain
from tasks_app.turns import this_worker

logger = logging.getLogger(__name__)

#: Seconds between two looks at what still runs.
LOOK = 0.2


class SoftShutdown:
    """Runs beside Celery's own shutdown, in a thread of the worker's main process."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._processes: set[int] = set()

    def begin(self, timeout: float) -> None:
        """Give running helpers this many seconds from now; later calls change nothing."""
        this_worker.stop()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._end, args=(timeout,), name="tasks_app-soft-shutdown", daemon=True
            )
            self._thread.start()

    def _end(self, timeout: float) -> None:
        if self._ends_within(timeout):
            return
        logger.warning("The soft shutdown's %g seconds are over: helpers are interrupted", timeout)
        self._interrupt(signal.SIGTERM)
        if self._ends_within(PATIENCE):
            return
        give_back()
        self._interrupt(signal.SIGKILL)

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        # What a process begins with its last claim is seen by a look a moment later.
        time.sleep(LOOK)
        while self._is_busy():
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK)
        return True

    def _is_busy(self) -> bool:
        try:
            with database_section(conf.DATABASE, keep=False):
                self._processes = rescue.running_processes()
        except DatabaseError:
            return True
        return bool(self._processes)

    def _interrupt(self, number: signal.Signals) -> None:
        if not keeper.has_own_process:
            keeper.interrupt_all(WorkerShutdown)
            return
        for pid in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def give_back() -> None:
    """Give back every outcome that this worker still runs; a failure leaves it to the rescuer."""
    try:
        with database_section(conf.DATABASE, keep=False):
            released = rescue.release_all()
    except DatabaseError as error:
        logger.warning("Running outcomes are left to the rescuer. %s", explain(error))
    else:
        if released:
            logger.info("Gave back %d running outcomes", released)
