"""
Poison: messages that no worker expects, and that must not end one.

Whoever can write to the broker can write anything. Celery's consumer answers most of it, but what
it does not foresee (a body nested too deep, an id that is a mapping, a text as time limit) would
end the worker, and on some brokers the next one too. Such a message is acknowledged, counted by
the signal `dropped`, told in one log line without its contents, and dropped: an outcome that it
may have spoken of is announced again.
"""

import logging
from collections.abc import Callable
from numbers import Real
from typing import Any

from celery import bootsteps

from tasks_app import signals
from tasks_app.failures import one_line
from tasks_app.models import Outcome

logger = logging.getLogger(__name__)

#: What reading a malformed message raises; a lost connection is none of these.
MALFORMED = (AttributeError, LookupError, RecursionError, TypeError, ValueError)


class PoisonStep(bootsteps.Step):
    """Lets a worker's consumer live on after a malformed message, whatever its transport."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def create(self, parent: Any) -> None:
        make_handler = parent.create_task_handler

        def create_task_handler(*args: Any, **options: Any) -> Callable[[Any], None]:
            return guarded(make_handler(*args, **options), parent.connection_errors)

        parent.create_task_handler = create_task_handler


def guarded(
    handle: Callable[[Any], Any], connection_errors: tuple[type[BaseException], ...]
) -> Callable[[Any], None]:
    """Return the handler of a consumer's messages with malformed ones dropped."""

    def handle_or_drop(message: Any) -> None:
        try:
            _check(message)
            handle(message)
        except connection_errors:
            raise
        except MALFORMED as error:
            message.ack_log_error(logger, connection_errors)
            drop(error)

    return handle_or_drop


def drop(error: Exception) -> None:
    """Count and tell that a message was dropped; `error` is why it could not be read."""
    logger.warning("A malformed message was dropped (%s)", type(error).__name__)
    signals.dropped.send_robust(Outcome, task_name="", outcome_id="", why="it is malformed")


def _check(message: Any) -> None:
    """Refuse what would fail in the pool's own callbacks, or write lines of its own into a log."""
    for name in ("id", "task"):
        text = str((message.headers or {}).get(name, ""))
        if one_line(text) != text:
            msg = f"its {name} is no plain text"
            raise ValueError(msg)
    limits = (message.headers or {}).get("timelimit")
    if limits is not None and not _are_limits(limits):
        msg = "its time limits are not two numbers"
        raise TypeError(msg)


def _are_limits(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2  # noqa: PLR2004 - hard and soft
        and all(limit is None or isinstance(limit, Real) for limit in value)
    )
