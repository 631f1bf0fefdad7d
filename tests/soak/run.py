"""One soak from its start to its verdict."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import F

from tasks_app.models import Outcome
from tests.history import log as history
from tests.history.client import ClientLog
from tests.soak import samples, tasks
from tests.soak.nemesis import Nemesis
from tests.soak.samples import Sample
from tests.soak.stage import Stage, asked, connections_in_use
from tests.soak.verdict import FINAL
from tests.waiting import wait_until

#: Seconds within which all processes are at work after their start.
START = 120

#: Seconds that the system gets to finish when all faults have ended. A message that is lost for
#: the fifth time is announced again after ten minutes.
FINISH = 780

#: Seconds between two lines about the progress.
NEWS = 30.0

TICK = 0.05


@dataclass(frozen=True)
class Plan:
    """
    What a soak is asked to do.

    Attributes:
        seconds: How long faults last, unless counts are given.
        seed: Of the dice.
        tasks: Outcomes to be reached; None: as many as there will be.
        kills: SIGKILLs of the nemesis to be reached; None likewise.
        pace: Faults per time, relative to the ordinary.
        hurries: Let the wait for the next announcement pass when the faults have ended.
    """

    seconds: float
    seed: str
    tasks: int | None = None
    kills: int | None = None
    pace: float = 1.0
    hurries: bool = False

    def is_over(self, seconds: float, tasks: int, kills: int) -> bool:
        """Tell whether the faults have lasted long enough."""
        if self.tasks is None and self.kills is None:
            return seconds >= self.seconds
        return self.is_reached(tasks, kills) or seconds >= 2 * self.seconds

    def is_reached(self, tasks: int, kills: int) -> bool:
        """Tell whether the given counts are reached."""
        return tasks >= (self.tasks or 0) and kills >= (self.kills or 0)


@dataclass(frozen=True)
class Recovery:
    """A probe that was enqueued when a fault ended, and how long it took to succeed."""

    fault: str
    outcome_id: UUID
    seconds: float


class Soak:
    """A run on a stage: `perform` it, then read the attributes."""

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self.stage = stage
        self.plan = plan
        self.nemesis = Nemesis(stage, plan.seed, plan.pace)
        self.log = ClientLog(stage.folder / "probes.calls")
        self.samples: list[Sample] = []
        self.connections: list[int] = []
        #: Outcomes that were enqueued at the end of a fault, by id: the fault's name.
        self.probes: dict[UUID, str] = {}
        self.tasks = 0
        self.faulty_seconds = 0.0
        self.finishing_seconds = 0.0
        self.connections_at_rest: int | None = None
        self._next: dict[str, float] = {}

    def perform(self) -> None:
        """Start everything, let the nemesis loose, heal, and wait for the end of every outcome."""
        history.install()
        for member in self.stage.members:
            member.start()
        wait_until(self.is_everybody_ready, START, "everybody's start")
        began = time.monotonic()
        while not self.plan.is_over(time.monotonic() - began, self.tasks, self.nemesis.kills):
            self.nemesis.step()
            self.watch()
            time.sleep(TICK)
        self.faulty_seconds = time.monotonic() - began
        self.heal()
        self.finish()
        if not self.plan.is_reached(self.tasks, self.nemesis.kills):
            self.stage.findings.append("the run did not reach the counts that were asked for")

    def is_everybody_ready(self) -> bool:
        """Tell whether all processes are at work; a crash point may have ended one by now."""
        self.stage.supervise()
        return all(member.is_ready for member in self.stage.members)

    def watch(self) -> None:
        """Do what is due beside the faults."""
        self.stage.supervise()
        self.send_probes()
        if self.is_due("samples", samples.INTERVAL):
            self.samples += samples.take(self.watched())
            if (count := connections_in_use()) is not None:
                self.connections.append(count)
            self.count_tasks()
        if self.is_due("news", NEWS):
            tell(
                f"{self.tasks:,} tasks, {self.unfinished()} unfinished, {self.nemesis.kills} kills,"
                f" {sum(self.nemesis.counts.values())} faults"
            )

    def watched(self) -> list[Any]:
        """Return the places whose memory is watched."""
        return [*self.stage.of_role("worker"), *self.stage.of_role("relay")]

    def is_due(self, what: str, interval: float) -> bool:
        """Tell whether something that happens regularly is to happen now."""
        if time.monotonic() < self._next.get(what, 0):
            return False
        self._next[what] = time.monotonic() + interval
        return True

    def count_tasks(self) -> None:
        """Count the outcomes so far."""
        self.tasks = asked(Outcome.objects.count, self.tasks)

    def unfinished(self) -> int:
        """Return how many outcomes are not final; -1 while the database is away."""
        return asked(lambda: Outcome.objects.exclude(state__in=FINAL).count(), -1)

    def send_probes(self) -> None:
        """Enqueue a probe for each fault that has ended; on failure, the next time."""
        while not self.stage.ended_faults.empty():
            fault = self.stage.ended_faults.queue[0]
            key = f"probe {uuid4().hex}"
            outcome_id = asked(lambda key=key: self.enqueue_probe(key), None)
            if outcome_id is None:
                return
            self.stage.ended_faults.get()
            self.probes[outcome_id] = fault

    def enqueue_probe(self, key: str) -> UUID:
        """Make one logged call, like any client."""
        with self.log.invoked("enqueue", arguments=[tasks.probe.name, key]) as call:
            outcome = tasks.probe.enqueue(key)
            call.ok(outcome.pk, created=True)
        return outcome.pk

    def heal(self) -> None:
        """End all faults and clients, and replace every process that has crash points."""
        tell("healing")
        self.nemesis.heal()
        for member in self.stage.of_role("client"):
            member.stop()
        for member in self.stage.members:
            if member.crashes and member.role != "client":
                member.crashes = False
                member.stop()
        wait_until(self.has_ended_clients, START, "the end of all clients")
        if self.plan.hurries:
            hurry()

    def has_ended_clients(self) -> bool:
        """Bury the clients that have ended; tell whether all have."""
        for member in self.stage.of_role("client"):
            if not member.running:
                member.bury()
                self.stage.members.remove(member)
        return not self.stage.of_role("client")

    def finish(self) -> None:
        """Wait until every outcome is final, or the patience is over."""
        began = time.monotonic()
        self.watch()
        while (left := self.unfinished()) and time.monotonic() - began < FINISH:
            self.watch()
            time.sleep(TICK * 4)
        self.finishing_seconds = time.monotonic() - began
        self.count_tasks()
        if left:
            self.stage.findings.append(f"{left} outcomes were not final after {FINISH} s")
        self.connections_at_rest = connections_in_use()
        self.stage.findings += self.unrecovered()

    def unrecovered(self) -> Iterator[str]:
        """Yield a line for each process that is not what it should be when all is over."""
        with contextlib.suppress(TimeoutError):
            wait_until(self.is_everybody_ready, START, "everybody at work")
        for member in self.stage.members:
            if not member.is_ready:
                yield f"{member.name} did not come back\n{member.current.tail(10)}"
            if orphans := member.left_over():
                yield f"{member.name} left children behind: {orphans}"

    def recoveries(self) -> list[Recovery]:
        """Return how long the probes took."""
        rows = Outcome.objects.filter(pk__in=list(self.probes), state="succeeded")
        return [
            Recovery(
                self.probes[row.pk], row.pk, (row.finished_at - row.created_at).total_seconds()
            )
            for row in rows
        ]

    def crash_points(self) -> Counter[str]:
        """Return how often each crash point ended a process."""
        found: Counter[str] = Counter()
        for path in self.stage.folder.glob("*.log"):
            for line in path.read_text(errors="replace").splitlines():
                if line.startswith("crash point "):
                    found[line.split()[2].rstrip(":")] += 1
        return found


def hurry() -> None:
    """Let the time until the next announcement pass for every waiting outcome."""
    waiting = Outcome.objects.filter(state="pending", announced__gt=0)
    asked(lambda: waiting.update(announce_at=F("announce_at") - timedelta(hours=1)), None)


def tell(line: str) -> None:
    """Tell whoever watches."""
    sys.stdout.write(f"soak: {line}\n")
    sys.stdout.flush()
