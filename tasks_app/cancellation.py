"""
Ending an outcome on request: cancelled, or given up for good.

Cancellation: a pending outcome never runs; a running one is asked, then stopped.

The request is a column of the row, so it survives restarts of anything. The keeper of the running
process sees it within seconds and stops the helper after `CANCEL_GRACE`.
"""

from typing import Any

from django.db import transaction

from tasks_app import canvas, outcomes, signals
from tasks_app.conf import conf
from tasks_app.crash_points import crash_point
from tasks_app.failures import short_line
from tasks_app.models import Outcome

#: Rounds between pending and running that a cancellation follows before it reports failure.
ROUNDS = 5


def cancel(outcome: Outcome, by: Any = None, reason: str = "") -> bool:
    """
    Cancel an outcome, or ask its running helper to stop.

    Runs in the caller's transaction, or in its own where there is none.

    Args:
        outcome: The outcome; refreshed before this returns.
        by: Who cancels; told in the stored reason.
        reason: Why, in one line.

    Returns:
        True if it will not run (any further); False if it was final already.
    """
    text = short_line(" ".join(part for part in (reason, _by(by)) if part))
    for _ in range(ROUNDS):
        if _cancel_pending(outcome, text):
            signals.cancelled.send_robust(Outcome, outcome=outcome)
            return True
        if outcomes.request_cancel(outcome.id, text):
            break
        outcome.refresh()
        if outcome.is_final or outcome.cancel_requested_at is not None:
            break
    outcome.refresh()
    return not outcome.is_final or outcome.state == "cancelled"


def discard(outcome: Outcome, by: Any = None, reason: str = "") -> bool:
    """
    Give up an outcome that waits: it fails as `discarded`, and what it was part of fails with it.

    Runs in the caller's transaction, or in its own where there is none.

    Args:
        outcome: The outcome; refreshed before this returns.
        by: Who discards it; told in the stored error.
        reason: Why, in one line.

    Returns:
        False if it is not pending.
    """
    error = short_line(" ".join(part for part in (reason or "Discarded", _by(by)) if part))
    with transaction.atomic(using=conf.DATABASE):
        is_discarded = outcomes.discard(outcome.id, error)
        outcome.refresh()
        if is_discarded:
            canvas.on_failure(outcome, error)
    if is_discarded:
        signals.failed.send_robust(Outcome, outcome=outcome, error=None)
    return is_discarded


def _by(somebody: Any) -> str:
    return f"(by {somebody})" if somebody else ""


def _cancel_pending(outcome: Outcome, reason: str) -> bool:
    with transaction.atomic(using=conf.DATABASE):
        if not outcomes.cancel(outcome.id, reason):
            return False
        outcome.refresh()
        canvas.on_failure(outcome, reason or "cancelled")
        crash_point("cancel.before_commit")
        return True
