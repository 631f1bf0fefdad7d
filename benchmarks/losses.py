"""
Losses: what becomes of calls while workers are killed and the broker loses its messages.

Each contestant gets the same schedule of faults, from the same dice: SIGKILL to a process of a
pool or to a whole worker, `FLUSHALL`, SIGKILL to a Redis that comes back empty. Workers are
started again at once. When all calls are made, faults end, and what is missing after a time of
rest is lost, or stuck if somebody still knows of it.
"""

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.contestants import Ground
from tests.children import Child, descendants, signal_all
from tests.servers import PostgreSQL, Redis

CONTESTANTS = ("effects_early_ack", "effects_late_ack", "effects_with_outcomes")

#: Seconds before and after the effect of a task.
MOMENT = 0.05

#: Seconds after which Redis' messages, and leases, count as abandoned.
VISIBLE = 5

#: Calls per second, and seconds of rest at the end.
PER_SECOND, REST = 15, 60

WORKERS = 2

#: Shortest and longest time between two faults, in seconds.
PAUSE = (0.8, 1.8)

WEIGHTS = {"child": 60, "worker": 25, "flush": 8, "restart": 7}

#: The faults that leave the broker alone.
KILLS = ("child", "worker")


@dataclass(frozen=True)
class Fault:
    """One fault of the schedule: when, what, and the dice for whom."""

    at: float
    kind: str
    dice: float


@dataclass(frozen=True)
class Losses:
    """What became of the calls of one contestant."""

    calls: int
    lost: int
    doubled: int
    stuck: int


def run(contestants: Sequence[str], tasks: int, seed: int, *, spares_broker: bool) -> None:
    """Let each contestant live through the same faults and print a row for each."""
    faults = list(schedule(seed, tasks / PER_SECOND, spares_broker=spares_broker))
    counts = ", ".join(f"{kind} {count}" for kind, count in Counter(f.kind for f in faults).items())
    print(f"seed {seed}, {tasks:,} calls, {len(faults)} faults: {counts}", flush=True)
    print(f"{'contestant':24}{'calls':>8}{'lost':>8}{'doubled':>8}{'stuck':>8}", flush=True)
    with PostgreSQL() as database, Redis() as broker, tempfile.TemporaryDirectory() as folder:
        ground = Ground(database, broker, Path(folder))
        ground.migrate()
        for contestant in contestants:
            seen = Trial(ground, contestant).live(tasks, faults)
            row = f"{seen.calls:8,}{seen.lost:8}{seen.doubled:8}{seen.stuck:8}"
            print(f"{contestant:24}{row}", flush=True)


def schedule(seed: int, seconds: float, *, spares_broker: bool) -> Iterator[Fault]:
    """Yield the faults of a run, at the same times whether or not the broker is spared."""
    dice = random.Random(seed)
    at = dice.uniform(*PAUSE)
    while at < seconds:
        kind = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        target = dice.random()
        if not spares_broker or kind in KILLS:
            yield Fault(at, kind, target)
        at += dice.uniform(*PAUSE)


class Trial:
    """One contestant, its workers, and the faults."""

    def __init__(self, ground: Ground, contestant: str) -> None:
        self.ground = ground
        self.contestant = contestant
        self.workers: list[Child] = []

    def live(self, tasks: int, faults: Sequence[Fault]) -> Losses:
        """Make the calls under faults, rest, and count."""
        self.ground.clear()
        self.query("CREATE TABLE IF NOT EXISTS effect (key text)", "TRUNCATE effect")
        self.workers = [self.start(number) for number in range(WORKERS)]
        try:
            self.suffer(faults, self.produce(tasks))
            self.rest()
            return self.count(tasks)
        finally:
            for worker in self.workers:
                worker.kill()

    def start(self, number: int) -> Child:
        """Start one of the workers."""
        return self.ground.worker(self.contestant, "--hostname", f"worker{number}@%h")

    def produce(self, tasks: int) -> Child:
        """Start the caller."""
        return self.ground.start(
            "caller", "benchmarks.produce", self.contestant, str(tasks), str(PER_SECOND)
        )

    def suffer(self, faults: Sequence[Fault], caller: Child) -> None:
        """Let each fault happen at its time, until the caller has made its last call."""
        began = time.monotonic()
        waiting = list(faults)
        while caller.running:
            if waiting and time.monotonic() - began >= waiting[0].at:
                self.hit(waiting.pop(0))
            self.supervise()
            time.sleep(0.05)
        if caller.process.returncode:
            sys.exit(caller.tail())
        caller.kill()

    def rest(self) -> None:
        """Let the survivors finish."""
        end = time.monotonic() + REST
        while time.monotonic() < end:
            self.supervise()
            time.sleep(0.05)

    def supervise(self) -> None:
        """Start again whatever has ended."""
        for number, worker in enumerate(self.workers):
            if not worker.running:
                worker.kill()
                self.workers[number] = self.start(number)

    def hit(self, fault: Fault) -> None:
        """Let one fault happen."""
        worker = self.workers[int(fault.dice * WORKERS)]
        match fault.kind:
            case "child":
                # The same child, as far as there is one: a pool is as large as the dice's range.
                children = descendants(worker.pid)
                signal_all(children[int(fault.dice * WORKERS % 1 * len(children)) :][:1], 9)
            case "worker":
                worker.kill()
            case "flush":
                with self.ground.broker.client() as client:
                    client.flushall()
            case "restart":
                self.ground.broker.kill()
                self.ground.broker.start()

    def count(self, tasks: int) -> Losses:
        """Count effects against calls; every call was told to be good."""
        effects = Counter(key for (key,) in self.query("SELECT key FROM effect"))
        missing = {f"key-{number}" for number in range(tasks)} - effects.keys()
        stuck = min(len(missing), self.known())
        doubled = sum(count > 1 for count in effects.values())
        return Losses(tasks, len(missing) - stuck, doubled, stuck)

    def known(self) -> int:
        """Return how many calls somebody still knows to be unfinished."""
        if self.contestant == "effects_with_outcomes":
            waiting = "SELECT count(*) FROM tasks_app_outcome WHERE state IN ('pending', 'running')"
            return int(self.query(waiting)[0][0])
        with self.ground.broker.client() as client:
            queued = sum(client.llen(name) for name in client.keys("celery*"))
            return int(queued) + int(client.hlen("unacked"))

    def query(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements; return the rows of the last one."""
        with psycopg.connect(self.ground.database.url) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []
