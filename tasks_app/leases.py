"""
Leases: the time-boxed right of one worker to run one outcome.

The fence names the run; whoever takes the outcome away raises it, so what an overtaken run still
writes meets zero rows. Lease times are computed and compared by the database's clock alone.
"""

import os
import secrets
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from tasks_app.models import Outcome


@dataclass(frozen=True, slots=True)
class Lease:
    """Proof of a claim: what every write of this run has to name."""

    outcome_id: UUID
    task_name: str
    fence: int
    #: The run's number among those that count, from 1.
    number: int
    worker: str
    started_at: datetime
    #: Since when the run could have begun.
    due_at: datetime

    @classmethod
    def of(cls, outcome: "Outcome") -> "Lease":
        """Return the lease that a running row speaks of."""
        if outcome.claimed_at is None:
            msg = f"{outcome} is {outcome.state}: only a running outcome has a lease."
            raise ValueError(msg)
        return cls(
            outcome.id,
            outcome.task_name,
            outcome.fence,
            outcome.attempt,
            outcome.worker,
            outcome.claimed_at,
            outcome.run_at,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """What an attempt's error looked like: texts only, already scrubbed of secrets."""

    error_type: str = ""
    error: str = ""
    traceback: str = ""
    sentry_event_id: str = ""
    #: The last lines of the run's log.
    log: str = ""
    #: Module and function of the project's code that raised it, or "" where none of it did; None:
    #: nothing was raised.
    place: str | None = None
    #: What the outcome's row keeps for its next attempt; None: what it has.
    trace_context: str | None = None


class _Identity:
    """Names this worker: node, a mark drawn at the worker's start, and the process."""

    def __init__(self) -> None:
        self.node = ""
        self.mark = ""

    def take(self, node: str) -> None:
        self.node = node
        self.mark = secrets.token_hex(3)


_identity = _Identity()


def identify(node: str) -> None:
    """Name this worker; called once in its main process, before any child is forked."""
    _identity.take(node)


def worker_name(pid: int | None = None) -> str:
    """Return the name that claims of this process (or of the child `pid`) carry."""
    if not _identity.node:
        identify(socket.gethostname())
    return f"{worker_prefix()}{os.getpid() if pid is None else pid}"


def worker_prefix() -> str:
    """Return what the names of this worker's processes begin with, and no other worker's."""
    return f"{_identity.node}#{_identity.mark}/"


def process_of(worker: str) -> int:
    """Return the process id that a worker's name ends with."""
    return int(worker.rpartition("/")[2])


def prefix_of(worker: str) -> str:
    """Return what a worker's name shares with all other processes of that worker."""
    return worker.rpartition("/")[0] + "/"


def node_of(worker: str) -> str:
    """Return the node that a worker's name begins with, as Celery knows it."""
    return worker.rpartition("#")[0]
