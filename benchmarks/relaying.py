"""
Relaying: how fast one relay brings a backlog to the broker, beside django-celery-outbox's.

Each relay is the project's own command in a process of its own, and no worker runs. The clock runs
from the first messages at the broker to the last, so that no start counts. This project's messages
ring for several calls each: there the rows tell how many were announced. What the relay,
PostgreSQL and the broker use of the processors meanwhile tells more than the clock where other
work shares the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks import processor
from benchmarks.contestants import ROOT
from benchmarks.figures import Sheet
from benchmarks.peers.environment import python_of
from tests.children import Child
from tests.servers import PostgreSQL, RabbitMQ, Redis

#: Pending rows of each round.
ROWS = 10_000

#: Where both publish to: the default queue of Celery.
QUEUE = "celery"

#: Seconds between two looks at the broker, and at the rows, which cost more to count; and after
#: which a relay that is not done has failed.
POLL, SELDOM, PATIENCE = 0.01, 0.1, 300

Depth = Callable[[], int]


@dataclass(frozen=True)
class Contestant:
    """
    A relay.

    Attributes:
        name: How figures call it.
        peer: The peer whose environment it runs in; None for this project's.
        settings: Django's settings of the relay and its tables.
        filler: Module whose `fill` makes rows.
        command: Django's management command, with its options.
        table: The table that the rows are in.
        announced: A condition that rows meet once they are announced; empty where messages tell it.
        times: Its backlog, as a multiple of the others': a faster relay has more to do.
    """

    name: str
    peer: str | None
    settings: str
    filler: str
    command: Sequence[str]
    table: str
    announced: str = ""
    times: int = 1

    @property
    def python(self) -> Path:
        return Path(sys.executable) if self.peer is None else python_of(self.peer)


OWN = Contestant(
    name="with_outcomes",
    peer=None,
    settings="benchmarks.relaying_settings",
    filler="with_outcomes",
    command=("tasks", "relay"),
    table="tasks_app_outcome",
    announced="announced > 0",
    times=4,
)
AS_SHIPPED = Contestant(
    name="django-celery-outbox",
    peer="outbox",
    settings="benchmarks.peers.outbox.relay",
    filler="peers.outbox.relay",
    command=("celery_outbox_relay",),
    table="celery_outbox",
)
TUNED = Contestant(
    name="django-celery-outbox, tuned",
    peer="outbox",
    settings=AS_SHIPPED.settings,
    filler=AS_SHIPPED.filler,
    command=(*AS_SHIPPED.command, "--batch-size", "200", "--publish-concurrency", "4"),
    table=AS_SHIPPED.table,
)
CONTESTANTS = (OWN, AS_SHIPPED, TUNED)

BROKERS: Sequence[type[Redis | RabbitMQ]] = (Redis, RabbitMQ)


@dataclass
class Moment:
    """How many messages were there, when, and what the processes had used by then, in seconds."""

    messages: int
    relay: float
    servers: float
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Scene:
    """The servers of a round, the folder of its logs, and a way to ask how deep the queue is."""

    database: PostgreSQL
    broker: Redis | RabbitMQ
    folder: Path
    depth: Depth

    def environment(self, contestant: Contestant) -> dict[str, str]:
        """Return the environment of a contestant's processes."""
        return {
            **os.environ,
            "BENCHMARK_DATABASE": self.database.url,
            "BENCHMARK_BROKER": self.broker.url,
            "DJANGO_SETTINGS_MODULE": contestant.settings,
            "PYTHONPATH": str(ROOT),
        }

    def run(self, contestant: Contestant, *arguments: str) -> None:
        """Run a Python module to its end; it inherits the terminal for its errors."""
        subprocess.run(
            [contestant.python, "-m", *arguments],
            env=self.environment(contestant),
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def fill(self, contestant: Contestant, rows: int) -> None:
        """Leave nothing but so many pending rows of one contestant, and statistics about them."""
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            connection.execute(f"TRUNCATE {contestant.table} CASCADE")
            self.run(contestant, "benchmarks.fill", contestant.filler, str(rows))
            connection.execute(f"VACUUM ANALYZE {contestant.table}")

    def start(self, contestant: Contestant) -> Child:
        """Start a relay."""
        return Child(
            contestant.name,
            [contestant.python, "-m", "django", *contestant.command],
            log=self.folder / f"{contestant.name}.log",
            environment=self.environment(contestant),
            folder=ROOT,
        )

    def announced(self, contestant: Contestant) -> int:
        """Return how many calls have been announced, as the broker or the rows tell it."""
        if not contestant.announced:
            return self.depth()
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            query = f"SELECT count(*) FROM {contestant.table} WHERE {contestant.announced}"
            row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def moment(self, relay: Child, messages: int) -> Moment:
        """Return what there is now."""
        servers = [*self.database.started.family(), *self.broker.started.family()]
        return Moment(messages, processor.seconds(relay.family()), processor.seconds(servers))


def run(sheet: Sheet, rounds: int, rows: int = ROWS) -> None:
    """Let the relays announce in turns, at each broker."""
    with PostgreSQL() as database, tempfile.TemporaryDirectory() as folder:
        for kind in BROKERS:
            with kind() as broker, depth_of(broker) as depth:
                scene = Scene(database, broker, Path(folder), depth)
                for contestant in CONTESTANTS:
                    scene.run(contestant, "django", "migrate", "--verbosity", "0")
                for _ in range(rounds):
                    for contestant in CONTESTANTS:
                        empty(broker)
                        backlog = rows * contestant.times
                        scene.fill(contestant, backlog)
                        note(sheet, scene, contestant, *announce(scene, contestant, backlog))


def announce(scene: Scene, contestant: Contestant, rows: int) -> tuple[Moment, Moment]:
    """Let one relay announce all rows; return when the first and the last were at the broker."""
    relay = scene.start(contestant)
    try:
        first = scene.moment(relay, wait_for(scene, contestant, relay, 1))
        last = scene.moment(relay, wait_for(scene, contestant, relay, rows))
        relay.terminate()
    finally:
        relay.kill()
    return first, last


def wait_for(scene: Scene, contestant: Contestant, relay: Child, calls: int) -> int:
    """Return how many calls are announced once there are enough."""
    deadline = time.monotonic() + PATIENCE
    while (found := scene.announced(contestant)) < calls:
        if not relay.running or time.monotonic() > deadline:
            sys.exit(f"{found} of {calls} calls were announced\n{relay.tail()}")
        time.sleep(SELDOM if contestant.announced else POLL)
    return found


def note(sheet: Sheet, scene: Scene, contestant: Contestant, first: Moment, last: Moment) -> None:
    """Add one round of one contestant to the figures."""
    measure = f"relay on {scene.broker.name}"
    rows = last.messages - first.messages
    sheet.add(measure, contestant.name, rows / (last.at - first.at), unit="rows/s", better="higher")
    used = {"relay": last.relay - first.relay, "servers": last.servers - first.servers}
    for whose, seconds in used.items():
        cost = seconds / rows * 1e6
        sheet.add(
            f"{measure}, CPU of {whose}", contestant.name, cost, unit="µs/row", better="lower"
        )


@contextmanager
def depth_of(broker: Redis | RabbitMQ) -> Iterator[Depth]:
    """Keep a connection that tells how many messages wait in the queue."""
    if isinstance(broker, Redis):
        with broker.client() as client:
            yield lambda: int(client.llen(QUEUE))
        return
    with broker.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        yield lambda: int(channel.queue_declare(QUEUE, passive=True).message_count)


def empty(broker: Redis | RabbitMQ) -> None:
    """Leave no message."""
    if isinstance(broker, Redis):
        with broker.client() as client:
            client.flushall()
    else:
        with broker.connect() as connection:
            connection.channel().queue_purge(QUEUE)
