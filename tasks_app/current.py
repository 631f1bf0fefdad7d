"""
What a running helper may ask and tell: `from tasks_app import current`.

Outside a task every call is harmless: values are None or False, progress goes nowhere. The names
are read from the run that the calling code belongs to, so `current.attempt` is always this run's.
"""

import math
from datetime import datetime
from typing import Any
from uuid import UUID

from tasks_app import context
from tasks_app.broker import SCHEDULED_FOR, call_options
from tasks_app.exceptions import TaskCancelled
from tasks_app.failures import short_line
from tasks_app.models import Outcome, Progress
from tasks_app.redaction import scrub
from tasks_app.runs import running

__all__ = [
    "attempt",
    "cancelled",
    "idempotency_key",
    "outcome_id",
    "progress",
    "raise_if_cancelled",
    "request_id",
    "scheduled_for",
]

#: Id of the running outcome, or None.
outcome_id: UUID | None
#: Number of this attempt, from 1, or None.
attempt: int | None
#: A text that stays the same over all attempts and replays, for passing to a provider, or None.
idempotency_key: str | None
#: The request id that this work belongs to, or None.
request_id: str | None
#: The scheduled time that this work serves, aware; the same over all attempts and replays, and None
#: for what no schedule asked for.
scheduled_for: datetime | None
#: True once the outcome's cancellation was asked for, or this run has lost its lease.
cancelled: bool


def progress(done: float, total: float | None = None, message: str = "") -> None:
    """
    Tell how far the helper is; cheap enough for every step of a loop.

    The newest report is stored about once a second, on another connection than the helper's, so
    it is visible while an atomic helper runs. A report never fails its helper: one without a
    finite `done` is left out.

    Args:
        done: Units done.
        total: Units in all, if known.
        message: One line for people; cut at 255 characters.
    """
    run = running()
    if run is not None and math.isfinite(done):
        known = total is not None and math.isfinite(total)
        line = short_line(scrub(message, run.secrets))
        run.report(Progress(float(done), total if known else None, line))


def raise_if_cancelled() -> None:
    """Raise `TaskCancelled` if `cancelled`; let it pass to end the outcome as cancelled."""
    run = running()
    if run is not None and run.is_cancelled:
        msg = f"{run.outcome} was asked to stop."
        raise TaskCancelled(msg, outcome_id=run.outcome.id)


def __getattr__(name: str) -> Any:
    run = running()
    if name == "request_id":
        return context.request_id()
    if name == "cancelled":
        return run is not None and run.is_cancelled
    if name == "outcome_id":
        return run and run.outcome.id
    if name == "attempt":
        return run and run.lease.number
    if name == "idempotency_key":
        return run and (run.outcome.idempotency_key or str(run.outcome.id))
    if name == "scheduled_for":
        return run and _slot_of(run.outcome)
    raise AttributeError(name)


def _slot_of(outcome: Outcome) -> datetime | None:
    text = call_options(outcome).get(SCHEDULED_FOR)
    return None if text is None else datetime.fromisoformat(text)
