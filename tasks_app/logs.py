"""
Every log line about an outcome's life, as receivers of the app's own signals.

Logger `tasks_app`. Each line carries `outcome_id, task, attempt, queue, request_id` in its
record, failures as well as successes; arguments never appear.
"""

import logging
from typing import Any

from tasks_app import signals
from tasks_app.models import Outcome

logger = logging.getLogger("tasks_app")


def connect() -> None:
    """Connect the receivers; called once, when the app is ready."""
    lines = (
        (signals.enqueued, logging.DEBUG, "enqueued"),
        (signals.announced, logging.DEBUG, "announced"),
        (signals.started, logging.DEBUG, "started"),
        (signals.succeeded, logging.INFO, "succeeded"),
        (signals.retrying, logging.WARNING, "retrying"),
        (signals.failed, logging.ERROR, "failed"),
        (signals.rescued, logging.WARNING, "rescued"),
        (signals.cancelled, logging.INFO, "cancelled"),
        (signals.expired, logging.WARNING, "expired"),
    )
    for signal, level, word in lines:
        if logger.isEnabledFor(level):
            signal.connect(_line(level, word), weak=False, dispatch_uid=f"tasks_app.logs.{word}")
    signals.dropped.connect(_dropped, dispatch_uid="tasks_app.logs.dropped")
    signals.lease_lost.connect(_lease_lost, dispatch_uid="tasks_app.logs.lease_lost")


def _line(level: int, word: str) -> Any:
    def receive(outcome: Outcome, **kwargs: Any) -> None:
        logger.log(
            level,
            "%s %s%s",
            word,
            outcome,
            f": {outcome.error}" if outcome.error else "",
            extra=_fields(outcome),
        )

    return receive


def _fields(outcome: Outcome) -> dict[str, Any]:
    return {
        "outcome_id": str(outcome.id),
        "task": outcome.task_name,
        "attempt": outcome.attempt,
        "queue": outcome.queue,
        "request_id": outcome.request_id,
    }


def _dropped(task_name: str, outcome_id: str, why: str, **kwargs: Any) -> None:
    level = logging.WARNING if kwargs.get("is_refused") else logging.INFO
    about = f" for {task_name} {outcome_id}" if task_name else ""
    logger.log(level, "dropped a message%s: %s", about, why)


def _lease_lost(lease: Any, **kwargs: Any) -> None:
    logger.warning(
        "lost the lease of outcome %s (fence %s); its writes were rolled back",
        lease.outcome_id,
        lease.fence,
    )
