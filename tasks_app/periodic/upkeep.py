"""
The app's own upkeep: what is due now and then, and never twice at once.

Each duty has a leadership of its own. Who has it does the duty, renews it meanwhile, and then
keeps it for as long as the duty need not be done again: the next time is in the database, and a
process that dies at work is followed by another once its lease runs out.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.db import DatabaseError, connections

from tasks_app.conf import conf
from tasks_app.periodic.leadership import Leader
from tasks_app.prune import prune

logger = logging.getLogger(__name__)

#: Seconds between two looks for duties.
LOOK = 60.0

#: How long a duty may be silent before another process takes it over.
LEASE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do every now and then, in steps between which its leadership is renewed."""

    every: timedelta
    act: Callable[[], Iterator[int]]
    is_wanted: Callable[[], bool] = lambda: True


#: What there is to do, by name; rescue, metrics and heartbeats are looked after by the relays.
DUTIES: Mapping[str, Duty] = {
    "prune": Duty(timedelta(days=1), prune, lambda: bool(conf.PRUNE_DAILY)),
}


def do(name: str) -> int | None:
    """
    Do a duty, if it is due and nobody else is at it.

    Returns:
        How much was done; None where there was nothing to do or another process did it.
    """
    duty, leader = DUTIES[name], Leader(f"upkeep: {name}", LEASE)
    if not duty.is_wanted() or not leader.lead():
        return None
    done = 0
    for count in duty.act():
        done += count
        if not leader.lead():
            return done
    leader.rest(duty.every)
    return done


class Upkeep:
    """Looks for duties from whichever loop asks, and does them in a thread."""

    def __init__(self) -> None:
        self._next = 0.0
        self._thread: threading.Thread | None = None

    def run_if_due(self) -> None:
        """Look once a minute, unless the last look is still at work."""
        if time.monotonic() < self._next or (self._thread and self._thread.is_alive()):
            return
        self._next = time.monotonic() + LOOK
        self._thread = threading.Thread(target=self.run, name="tasks_app-upkeep", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Do every duty that is due."""
        for name in DUTIES:
            try:
                done = do(name)
            except DatabaseError as error:
                logger.debug("%s waits for the database: %s", name, error)
            except Exception:
                logger.exception("%s stumbled; it is tried again", name)
            else:
                if done:
                    logger.info("%s: %d done", name, done)
            finally:
                connections.close_all()
