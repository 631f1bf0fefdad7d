"""
Queues that rest: nothing of theirs is announced or begins until somebody resumes them.

A pause is a row (`models.PausedQueue`), so it outlives every process. Relays read it at each look,
and the claim asks for it in the one statement that takes an outcome: what was announced before the
pause meets workers that refuse it. What runs already goes on to its end.
"""

import logging
from typing import Any

from django.db import transaction

from tasks_app import outbox
from tasks_app.conf import conf
from tasks_app.exceptions import InvalidArgument
from tasks_app.failures import one_line, short_line
from tasks_app.models import PausedQueue
from tasks_app.transience import pessimistic

logger = logging.getLogger(__name__)

#: Longest name of a queue, in characters.
LONGEST_NAME = 128


def pause(name: str, by: Any = None, reason: str = "") -> bool:
    """
    Let a queue rest: from its commit on, no outcome of it is claimed anywhere.

    Runs in the caller's transaction, or in its own where there is none. A claim that began before
    that commit counts as begun: its outcome runs. Outcomes that expire meanwhile become `expired`;
    everything else waits, at no attempt. Outcomes may still be enqueued.

    Args:
        name: The queue; nobody needs to know it yet.
        by: Who pauses it: a user, or a name.
        reason: Why, in one line.

    Returns:
        False if it is paused already; nothing is changed then.

    Raises:
        InvalidArgument: no queue can have that name.
    """
    if not 0 < len(name) <= LONGEST_NAME or "\0" in name:
        msg = f"A queue's name has 1 to {LONGEST_NAME} characters, none of them NUL: {name!r}."
        raise InvalidArgument(msg)
    said = {"paused_by": _name_of(by), "reason": short_line(reason)}
    with pessimistic():
        _, is_new = PausedQueue.objects.get_or_create(pk=name, defaults=said)
    if is_new:
        logger.info("Queue %s was paused%s", one_line(name), _told(by, reason))
    return is_new


def resume(name: str, by: Any = None) -> bool:
    """
    Let a queue work again, and make due at once what had been announced.

    Runs in the caller's transaction, or in its own where there is none. Only announced rows are
    moved, of which there are about `MAX_IN_FLIGHT`; the others are due as they were. A crash leaves
    the queue paused.

    Args:
        name: The queue.
        by: Who resumes it; told in the log, stored nowhere.

    Returns:
        False if it is not paused.
    """
    with pessimistic(), transaction.atomic(using=conf.DATABASE):
        deleted, _ = PausedQueue.objects.filter(pk=name).delete()
        if deleted:
            outbox.recall_queue(name)
    if deleted:
        logger.info("Queue %s was resumed%s", one_line(name), _told(by))
    return deleted > 0


def paused() -> set[str]:
    """Return the names of all queues that are paused."""
    return outbox.paused_queues()


def _name_of(by: Any) -> str:
    return "" if by is None else short_line(str(by))


def _told(by: Any, reason: str = "") -> str:
    who = f" by {_name_of(by)}" if by is not None else ""
    return f"{who}: {short_line(reason)}" if reason else who
