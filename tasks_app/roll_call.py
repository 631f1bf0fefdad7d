"""
Roll call: do the rows that were announced still have a message at the broker?

A broker that restarts empty tells nobody what it has lost, and a worker that dies between
accepting a message and claiming its row takes that message along. The next announcement would
come, but minutes later. So every relay compares: where more rows wait than a queue has messages,
the rows come due at once. At worst a worker held the messages, and the row has two.
"""

import logging
import time
from collections.abc import Mapping
from uuid import UUID

from tasks_app import outbox
from tasks_app.conf import conf
from tasks_app.forks import database_section
from tasks_app.options import declared
from tasks_app.shapes import LONGEST_PEAL

logger = logging.getLogger(__name__)

#: Seconds between two roll calls.
INTERVAL = 4.0

#: A row's id, and how often it has been announced: after another announcement it starts anew.
Bell = tuple[UUID, int]


class RollCall:
    """One relay's memory of the rows that waited for an answer at its last look."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self.interval = interval
        self._next = 0.0
        self._before: dict[str, frozenset[Bell]] = {}
        self._is_broker_trusted = True

    def distrust(self) -> None:
        """Believe the broker to be empty until it is asked: it was away."""
        self._is_broker_trusted = False
        self._next = 0.0

    def waiting(self) -> dict[str, frozenset[Bell]]:
        """
        Return by queue what was rung for and not claimed; nothing until a look is due.

        Messages of a paused queue are answered without a claim: that its rows have none is right.
        """
        if time.monotonic() < self._next:
            return {}
        self._next = time.monotonic() + self.interval
        with database_section(conf.DATABASE, keep=True):
            found = {queue: self._bells(queue) for queue in outbox.open_queues()}
        return {queue: bells for queue, bells in found.items() if bells}

    def compare(self, waiting: Mapping[str, frozenset[Bell]], messages: Mapping[str, int]) -> int:
        """
        Make the rows due whose messages are gone; return how many.

        Args:
            waiting: What `waiting` returned.
            messages: How many messages each of those queues has at the broker.

        Raises:
            django.db.DatabaseError: the rows are left to their next announcement.
        """
        lost = [
            outcome_id
            for queue, bells in waiting.items()
            for outcome_id, _ in self._lost(bells, self._before.get(queue), messages[queue])
        ]
        self._before, self._is_broker_trusted = dict(waiting), True
        if not lost:
            return 0
        with database_section(conf.DATABASE, keep=True):
            count = outbox.recall(lost)
        logger.info("Ringing again for %d outcomes whose message nobody has answered", count)
        return count

    def _bells(self, queue: str) -> frozenset[Bell]:
        # A task that is unknown here may be unknown to every worker: it waits its longer waits.
        rows = outbox.unanswered(queue)
        return frozenset((pk, announced) for pk, name, announced in rows if name in declared)

    def _lost(
        self, bells: frozenset[Bell], before: frozenset[Bell] | None, messages: int
    ) -> frozenset[Bell]:
        if not self._is_broker_trusted:
            return bells if messages < len(bells) else frozenset()
        # What came in between is on its way, and workers hold a few messages unclaimed.
        overdue = bells & (before or frozenset())
        # Each message rings for up to a whole peal.
        return overdue if 2 * messages * LONGEST_PEAL < len(overdue) else frozenset()
