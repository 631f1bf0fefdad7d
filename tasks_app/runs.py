"""
The run in progress: what a helper may ask about itself and what the keeper watches over.

A contextvar holds it, so `current` works in threads, coroutines and nested calls alike.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any
from uuid import UUID

from tasks_app.broker import call_options
from tasks_app.leases import Lease
from tasks_app.models import Outcome, Progress
from tasks_app.redaction import secret_texts
from tasks_app.surroundings import surrounded

_running: ContextVar["Run | None"] = ContextVar("tasks_app_run", default=None)

Surround = Callable[["Run"], AbstractContextManager[None] | None]

#: What stands around every run, from its claim to the signal of its end, outermost first;
#: integrations add theirs. Their errors are logged and change nothing. They learn from signals how
#: the run ended, and are left as if it had ended well.
surroundings: list[Surround] = []


def _nobody() -> None:
    """Return that nobody is next."""


class Run:
    """One claimed outcome and its helper's thread."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.lease = Lease.of(outcome)
        self.began = time.monotonic()
        hard, soft = call_options(outcome).get("limits") or (None, None)
        self.hard_limit: float | None = hard
        self.soft_limit: float | None = soft
        #: Age at the last renewal, and at the first sight of a cancel request, in seconds.
        self.renewed_age = 0.0
        self.cancel_seen: float | None = None
        self.is_warned = False
        self.is_lost = False
        self.is_committing = False
        #: The driver's connection that the helper began with.
        self.connection: Any = None
        self.value: Any = None
        #: The event that tells of this run's error; whoever sends one sets it.
        self.sentry_event_id = ""
        #: Returns the last lines of this run's log; whoever keeps them sets it.
        self.read_log: Callable[[], str] = str
        #: What the row is to keep for its next attempt; None: what it has.
        self.trace_context: str | None = None
        #: Returns the outcome to be claimed with this run's success; whoever takes turns sets it.
        self.draw_next: Callable[[], UUID | None] = _nobody
        #: What that claim returned; committed with the success.
        self.claimed_next: Outcome | None = None
        self._progress: Progress | None = None
        self._thread = 0
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"the run of {self.outcome}"

    @cached_property
    def secrets(self) -> list[str]:
        """Texts of the call's secret values, for `redaction.scrub`."""
        outcome = self.outcome
        return secret_texts(outcome.task_name, outcome.args, outcome.kwargs)

    @property
    def is_cancelled(self) -> bool:
        return self.is_lost or self.cancel_seen is not None

    @property
    def age(self) -> float:
        """Seconds since the claim."""
        return time.monotonic() - self.began

    def report(self, progress: Progress) -> None:
        """Keep the helper's progress until the keeper or the settlement stores it."""
        self._progress = progress

    def take_progress(self) -> Progress | None:
        """Return the progress that is not stored yet, once."""
        progress, self._progress = self._progress, None
        return progress

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Mark the block in which `interrupt` may raise: the helper's own code."""
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._thread = 0

    def interrupt(self, error: type[BaseException]) -> bool:
        """Raise an exception in the helper's thread at its next bytecode; False if it has left."""
        with self._lock:
            if not self._thread:
                return False
            reached: int = ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread), ctypes.py_object(error)
            )
            return reached == 1


def running() -> Run | None:
    """Return the run that the current code belongs to, or None."""
    return _running.get()


@contextmanager
def entered(run: Run) -> Iterator[None]:
    """Make the run current for the block and enter its surroundings; leave both behind."""
    token = _running.set(run)
    try:
        with surrounded(surroundings, run):
            yield
    finally:
        _running.reset(token)
