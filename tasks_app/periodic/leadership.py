"""
Leadership: which of several processes leads, such as the beat that decides slots.

A lease on the database's clock: who leads renews it, and when nobody has for its length another
takes it. It saves work and keeps order. It guards nothing by itself: a process that slept may
believe that it leads until it asks, so what must happen once needs a guard of its own.
"""

import os
import secrets
import socket
from datetime import timedelta

from tasks_app.clock import DatabaseNow
from tasks_app.models import Leadership

#: How long a leader may be silent before another takes over; within ten seconds, looks included.
LEASE = timedelta(seconds=7)

#: Seconds between two looks of a candidate, at least.
SHORTEST = 0.05

#: Longest name of a host that is kept: a column holds it with the process and a mark.
LONGEST_HOST = 200


class Leader:
    """
    One candidate for the leadership of a name.

    Args:
        name: What is led; one row of `Leadership`.
        lease: How long each word of the leader holds.
    """

    def __init__(self, name: str, lease: timedelta = LEASE) -> None:
        self.name = name
        self.lease = lease
        self.holder = f"{socket.gethostname()[:LONGEST_HOST]}/{os.getpid()}#{secrets.token_hex(4)}"
        #: The number of this candidate's time in office; None: it does not lead.
        self.fence: int | None = None
        #: Seconds from the last look on until the other's lease runs out, unless it renews.
        self.vacant_in = 0.0

    def lead(self) -> bool:
        """
        Renew the leadership, or take it if its time is over; tell whether this one leads now.

        One statement for the leader, one for the others, each in the caller's transaction or its
        own. A crash leaves the lease to run out.
        """
        return self._hold(self.lease) or self._take()

    def resign(self) -> None:
        """Let another lead at once."""
        self._hold(timedelta(0))
        self.fence = None

    def rest(self, span: timedelta) -> None:
        """Keep the leadership for a span in which nobody needs it: its work is done for so long."""
        self._hold(span)

    def _hold(self, span: timedelta) -> bool:
        if self.fence is None:
            return False
        mine = Leadership.objects.filter(pk=self.name, holder=self.holder, fence=self.fence)
        if mine.update(until=DatabaseNow() + span):
            return True
        self.fence = None
        return False

    def _take(self) -> bool:
        row = Leadership.objects.annotate(is_at=DatabaseNow()).filter(pk=self.name).first()
        if row is None:
            vacant = Leadership(name=self.name, holder="", until=DatabaseNow())
            Leadership.objects.bulk_create([vacant], ignore_conflicts=True)
            row = Leadership.objects.annotate(is_at=DatabaseNow()).get(pk=self.name)
        self.vacant_in = max((row.until - row.is_at).total_seconds(), SHORTEST)
        if row.until > row.is_at:
            return False
        over = Leadership.objects.filter(pk=self.name, fence=row.fence, until__lte=DatabaseNow())
        if not over.update(
            holder=self.holder, until=DatabaseNow() + self.lease, fence=row.fence + 1
        ):
            return False
        self.fence = row.fence + 1
        return True
