"""
Every log line about an outcome's life, as receivers of the app's own signals.

Logger `tasks_app`. Each line carries `event, outcome_id, task, attempt, queue, request_id, state`
in its record, failures as well as successes; `duration`, `delay`, `reason` and `error_type` where
there are any. Arguments never appear. A receiver is connected only while its level is logged, so
that lines which nobody reads cost nothing.
"""

import logging
from collections.abc import Callable
from typing import Any

from django.dispatch import Signal

from tasks_app import signals
from tasks_app.logs import levels
from tasks_app.logs.fields import UNKNOWN, current_fields, current_work
from tasks_app.models import Outcome
from tasks_app.states import FINAL

logger = logging.getLogger("tasks_app")

#: What is told of, at which level, in which word.
LINES: tuple[tuple[Signal, int, str], ...] = (
    (signals.enqueued, logging.DEBUG, "enqueued"),
    (signals.announced, logging.DEBUG, "announced"),
    (signals.started, logging.DEBUG, "started"),
    (signals.progressed, logging.DEBUG, "progressed"),
    (signals.succeeded, logging.INFO, "succeeded"),
    (signals.retrying, logging.WARNING, "retrying"),
    (signals.failed, logging.ERROR, "failed"),
    (signals.rescued, logging.WARNING, "rescued"),
    (signals.cancelled, logging.INFO, "cancelled"),
    (signals.expired, logging.WARNING, "expired"),
)


def connect() -> None:
    """Connect the receivers; called once, when the app is ready."""
    match_levels()
    levels.listeners.append(match_levels)
    signals.dropped.connect(_dropped, dispatch_uid="tasks_app.logs.dropped")
    signals.lease_lost.connect(_lease_lost, dispatch_uid="tasks_app.logs.lease_lost")


def match_levels() -> None:
    """Connect the receivers whose lines are logged now, and no others."""
    for signal, level, word in LINES:
        uid = f"tasks_app.logs.{word}"
        if logger.isEnabledFor(level):
            signal.connect(_teller(level, word), weak=False, dispatch_uid=uid)
        else:
            signal.disconnect(dispatch_uid=uid)


def _teller(level: int, word: str) -> Callable[..., None]:
    def tell(outcome: Outcome, **kwargs: Any) -> None:
        error = f": {outcome.error}" if outcome.error else ""
        about = _about(word, outcome, kwargs)
        logger.log(level, "%s %s%s%s", word, outcome, _how_far(kwargs), error, extra=about)

    return tell


def _about(word: str, outcome: Outcome, told: dict[str, Any]) -> dict[str, Any]:
    delay = told.get("delay")
    found = {
        "event": word,
        "request_id": outcome.request_id,
        "outcome_id": str(outcome.id),
        "task": outcome.task_name,
        "attempt": outcome.attempt,
        "queue": outcome.queue,
        "state": str(outcome.state),
        "reason": str(outcome.reason or ""),
        "error_type": _error_type(told.get("error")),
        "delay": None if delay is None else delay.total_seconds(),
        "duration": _duration(outcome),
    }
    return {name: value for name, value in found.items() if value not in {None, ""}}


def _error_type(error: Any) -> str:
    if error is None:
        return ""
    kind = type(error)
    return getattr(error, "error_type", "") or f"{kind.__module__}.{kind.__qualname__}"


def _duration(outcome: Outcome) -> float | None:
    """Return the seconds of the run that ended, where they are known."""
    work = current_work()
    if work is not None and work.fields["outcome_id"] == str(outcome.id):
        return round(work.age, 6)
    if outcome.state in FINAL and outcome.started_at and outcome.finished_at:
        return (outcome.finished_at - outcome.started_at).total_seconds()
    return None


def _how_far(told: dict[str, Any]) -> str:
    progress = told.get("progress")
    if progress is None:
        return ""
    total = "" if progress.total is None else f" of {progress.total:g}"
    return f" to {progress.done:g}{total}"


def _dropped(task_name: str, outcome_id: str, why: str, **kwargs: Any) -> None:
    level = logging.WARNING if kwargs.get("is_refused") else logging.INFO
    about = f" for {task_name} {outcome_id}" if task_name else ""
    named = {"task": task_name or UNKNOWN, "outcome_id": outcome_id or UNKNOWN}
    fields = {**current_fields(), **named, "event": "dropped", "reason": why}
    logger.log(level, "dropped a message%s: %s", about, why, extra=fields)


def _lease_lost(lease: Any, **kwargs: Any) -> None:
    logger.warning(
        "lost the lease of outcome %s (fence %s); its writes were rolled back",
        lease.outcome_id,
        lease.fence,
        extra={**current_fields(), "event": "lease_lost", "outcome_id": str(lease.outcome_id)},
    )
