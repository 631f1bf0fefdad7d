"""What the nemesis does: each fault has targets, a beginning, a length and an end.

A fault begins on one target, which no other fault touches until it has ended. `is_kill` faults
end processes with SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import connection

from tasks_app.leases import process_of
from tasks_app.models import Outcome
from tests.children import signal_all
from tests.servers import Mode, Proxy, Redis, Server
from tests.soak.members import Member
from tests.soak.settings import SHORT_TIMES
from tests.soak.stage import Stage, asked

#: Seconds that a lease outlasts at most: whoever is stopped for longer has lost it.
LEASE: float = SHORT_TIMES["LEASE"]

#: How often a fault of one child seeks one that runs an outcome, and not any.
AT_WORK = 0.6


@dataclass
class Fault:
    """
    One kind of fault.

    Attributes:
        name: How the report calls it.
        weight: How often it is chosen, relative to the others.
        hold: Shortest and longest time between beginning and end, in seconds.
        is_kill: Whether it kills processes.
    """

    name: str
    weight: float
    hold: tuple[float, float] = (0.0, 0.0)
    is_kill: ClassVar[bool] = False

    def targets(self, stage: Stage) -> Sequence[Any]:
        """Return what it could hit now."""
        raise NotImplementedError

    def begin(self, stage: Stage, target: Any, dice: random.Random) -> Any:
        """Begin; what this returns is given to `end`."""

    def end(self, stage: Stage, target: Any, begun: Any) -> None:
        """Let what the fault took away come back."""


class OnMember(Fault):
    """A fault of one of the installation's processes."""

    role: ClassVar[str] = "worker"
    spares: ClassVar[bool] = False

    def targets(self, stage: Stage) -> Sequence[Member]:
        found = [member for member in stage.of_role(self.role) if member.is_ready]
        return [member for member in found if not (self.spares and member.is_spared)]


def one_child(target: Member, dice: random.Random) -> list[int]:
    """Return one process of a worker's pool, often one that runs an outcome; none if none."""
    children = target.children()
    at_work = sorted(set(children) & set(asked(lambda: running_in(target), [])))
    connection.close()
    chosen = at_work if at_work and dice.random() < AT_WORK else children
    return [dice.choice(chosen)] if chosen else []


def running_in(target: Member) -> list[int]:
    """Return the ids of a worker's processes that run an outcome, by the rows."""
    rows = Outcome.objects.filter(state="running", worker__startswith=f"{target.name}@")
    return [process_of(worker) for worker in rows.values_list("worker", flat=True)]


class KillChild(OnMember):
    """SIGKILL to one process of a pool, as the kernel does when memory is short."""

    is_kill = True

    def begin(self, stage: Stage, target: Member, dice: random.Random) -> None:
        signal_all(one_child(target, dice), signal.SIGKILL)


class KillMember(OnMember):
    """A power cut for one process and everything below it."""

    is_kill = True
    spares = True

    def begin(self, stage: Stage, target: Member, dice: random.Random) -> None:
        target.kill()


class KillMain(OnMember):
    """SIGKILL to a worker's main process alone; its children are left to notice."""

    is_kill = True
    spares = True

    def begin(self, stage: Stage, target: Member, dice: random.Random) -> None:
        target.is_excused = target.has_orphans = True
        target.current.send(signal.SIGKILL)


class KillRelay(KillMember):
    role = "relay"


class KillClient(KillMember):
    role = "client"


class Terminate(OnMember):
    """SIGTERM, as at every deployment."""

    spares = True

    def begin(self, stage: Stage, target: Member, dice: random.Random) -> None:
        target.stop()


class StopMember(OnMember):
    """SIGSTOP to a whole worker beyond its leases: it wakes as a zombie."""

    def begin(self, stage: Stage, target: Member, dice: random.Random) -> list[int]:
        family = target.current.family()
        signal_all(family, signal.SIGSTOP)
        return family

    def end(self, stage: Stage, target: Member, begun: list[int]) -> None:
        signal_all(begun, signal.SIGCONT)


class StopChild(StopMember):
    """SIGSTOP to one process of a pool beyond its lease."""

    def begin(self, stage: Stage, target: Member, dice: random.Random) -> list[int]:
        chosen = one_child(target, dice)
        signal_all(chosen, signal.SIGSTOP)
        return chosen


class OnBroker(Fault):
    def targets(self, stage: Stage) -> Sequence[Server]:
        return [stage.broker] if stage.broker and stage.broker.running else []


class Flush(OnBroker):
    """Every message is gone, in a moment."""

    def begin(self, stage: Stage, target: Server, dice: random.Random) -> None:
        if isinstance(target, Redis):
            with target.client() as client:
                client.flushall()


class PauseBroker(OnBroker):
    """The broker takes connections and does not answer."""

    def begin(self, stage: Stage, target: Server, dice: random.Random) -> None:
        target.pause()

    def end(self, stage: Stage, target: Server, begun: None) -> None:
        target.resume()


class KillBroker(OnBroker):
    """SIGKILL to the broker, which comes back with nothing."""

    is_kill = True

    def begin(self, stage: Stage, target: Server, dice: random.Random) -> None:
        target.kill()
        if target.folder is not None:
            shutil.rmtree(target.folder, ignore_errors=True)
            target.folder = None

    def end(self, stage: Stage, target: Server, begun: None) -> None:
        target.start()


class KillDatabase(Fault):
    """SIGKILL to the database; what it had confirmed is on its disk."""

    is_kill = True

    def targets(self, stage: Stage) -> Sequence[Server]:
        return [stage.database] if stage.database and stage.database.running else []

    def begin(self, stage: Stage, target: Server, dice: random.Random) -> None:
        target.kill()

    def end(self, stage: Stage, target: Server, begun: None) -> None:
        # A lock file that names the id of a dead process would stop a new one only if that id
        # were in use again.
        target.start()


@dataclass
class OnLink(Fault):
    """A misbehaving network in front of a server."""

    mode: Mode = Mode.CUT
    to_database: bool = False

    def targets(self, stage: Stage) -> Sequence[Proxy]:
        proxy = stage.database_proxy if self.to_database else stage.broker_proxy
        return [proxy] if proxy else []

    def begin(self, stage: Stage, target: Proxy, dice: random.Random) -> None:
        target.set(self.mode)

    def end(self, stage: Stage, target: Proxy, begun: None) -> None:
        # No network takes bytes out of a connection that then goes on.
        target.set(Mode.CUT)
        target.set(Mode.PASS)


class LoseFiles(Fault):
    """Every message file of the embedded broker is gone."""

    def targets(self, stage: Stage) -> Sequence[str]:
        return [] if stage.broker else ["files"]

    def begin(self, stage: Stage, target: str, dice: random.Random) -> None:
        for path in stage.message_files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - as fast as can be


BEYOND_LEASE = (LEASE + 0.5, LEASE + 3)


def all_faults(stage: Stage) -> Iterator[Fault]:
    """Yield the faults that this stage can have."""
    yield KillChild("child killed", 34)
    yield KillMember("worker killed", 8)
    yield KillMain("main process killed", 4)
    yield Terminate("worker asked to end", 3)
    yield StopMember("worker stopped", 3, BEYOND_LEASE)
    yield StopChild("child stopped", 5, BEYOND_LEASE)
    yield KillRelay("relay killed", 6)
    yield KillClient("client killed", 8)
    if stage.broker is None:
        yield LoseFiles("messages deleted", 5)
    else:
        yield from broker_faults(stage.broker)
    if stage.database is not None:
        yield KillDatabase("database killed", 2, (0.2, 1.5))
        yield OnLink("database cut", 3, (0.1, 1.5), Mode.CUT, to_database=True)
        yield OnLink("database replies cut", 3, (0.1, 0.7), Mode.DROP_REPLY_CUT, to_database=True)


def broker_faults(broker: Server) -> Iterator[Fault]:
    """Yield the faults of a broker that is a server."""
    if isinstance(broker, Redis):
        yield Flush("broker emptied", 5)
    yield KillBroker("broker killed", 3 if isinstance(broker, Redis) else 1.5, (0.2, 2))
    yield PauseBroker("broker paused", 2, (1, 6))
    yield OnLink("broker cut", 2, (0.2, 3), Mode.CUT)
    yield OnLink("broker silent", 2, (1, 7), Mode.BLACKHOLE)
    yield OnLink("broker replies lost", 2, (0.5, 6), Mode.DROP_REPLY)
    yield OnLink("broker replies cut", 2, (0.2, 2), Mode.DROP_REPLY_CUT)
