"""
The arena: servers that all contestants share, and what each turn of one of them starts with.

A turn begins with a fresh copy of the contestant's database and an empty broker, so that no turn
pays for what an earlier one left behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from benchmarks import rows
from benchmarks.lineup import Contestant
from benchmarks.peers.environment import python_of
from tests.children import Child
from tests.servers import PostgreSQL, RabbitMQ, Redis
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent

#: Database of the contestant whose turn it is.
TURN = "turn"

#: Queue that every contestant with a broker uses: Celery's own default.
QUEUE = "celery"

BROKERS: Mapping[str, type[Redis | RabbitMQ]] = {"redis": Redis, "rabbitmq": RabbitMQ}

#: Seconds after which a turn's process that goes on is a failure.
PATIENCE = 600

#: Variables that would make one interpreter slower than another.
OUR_OWN = ("PYTHONDEVMODE", "PYTHONWARNINGS", "DJANGO_SETTINGS_MODULE")


class TurnFailed(Exception):
    """A contestant's process failed; the text is the end of what it said."""


class Arena:
    """
    Servers and contestants' processes; a context manager.

    A broker is started when the first contestant that needs it has its turn: where it is not
    installed, those contestants fail and the others go on.

    Args:
        in_one_environment: Run peers in this interpreter's environment, too.
    """

    def __init__(self, *, in_one_environment: bool = False) -> None:
        self.in_one_environment = in_one_environment
        self.database = PostgreSQL()
        self.brokers: dict[str, Redis | RabbitMQ] = {}
        self.prepared: set[str] = set()
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(self.database)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    @property
    def stamps(self) -> Path:
        return self.folder / "stamps"

    def servers(self, contestant: Contestant) -> Sequence[Child]:
        """Return the processes of the servers that a contestant uses."""
        broker = self.brokers.get(contestant.broker)
        return [self.database.started, *([broker.started] if broker else [])]

    def begin(self, contestant: Contestant) -> None:
        """Give a contestant a fresh database, an empty broker and no stamps."""
        self._empty_broker(contestant)
        template = contestant.module.replace(".", "_")
        if template not in self.prepared:
            self._make(template, "template1")
            self.execute(rows.TABLE, template)
            self.turn(contestant, "prepare", database=template)
            self.prepared.add(template)
        wait_until(lambda: not self._users(template), 30, f"nobody to use {template}")
        self._make(TURN, template)
        self.stamps.write_bytes(b"")

    def turn(self, contestant: Contestant, *acts: str, database: str = TURN) -> list[Any]:
        """
        Let a contestant do some acts of `benchmarks.turn`, and return what each came to.

        Raises:
            TurnFailed: Its process did not end well.
            subprocess.TimeoutExpired: It did not end at all, and was killed.
        """
        command = [str(self.python(contestant)), "-m", "benchmarks.turn", contestant.module, *acts]
        run = subprocess.run(
            command,
            env=self.environment(contestant, database),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        if run.returncode:
            raise TurnFailed(f"{' '.join(acts)}: {last_lines(run.stderr)}")
        told: list[Any] = json.loads(run.stdout.splitlines()[-1])
        return told

    @contextmanager
    def workers(self, contestant: Contestant) -> Iterator[Sequence[Child]]:
        """Keep a contestant's workers for the block: two processes that run tasks."""
        environment = self.environment(contestant, TURN)
        command = [self.python(contestant), *contestant.command]
        started = [
            Child(
                f"{contestant.key}-{number}",
                command,
                log=self.folder / f"{contestant.key}-{number}.log",
                environment=environment,
                folder=ROOT,
            )
            for number in range(contestant.workers)
        ]
        try:
            yield started
            for worker in started:
                worker.terminate()
        finally:
            for worker in started:
                worker.kill()

    def python(self, contestant: Contestant) -> Path:
        """Return the interpreter of a contestant's environment, which is made if need be."""
        if not contestant.peer or self.in_one_environment:
            return Path(sys.executable)
        return python_of(contestant.peer)

    def environment(self, contestant: Contestant, database: str) -> Mapping[str, str]:
        """Return the environment of a contestant's processes."""
        kept = {name: value for name, value in os.environ.items() if name not in OUR_OWN}
        if contestant.peer and not self.in_one_environment:
            kept.pop("PYTHONPATH", None)
        broker = self.brokers.get(contestant.broker)
        return {
            **kept,
            **contestant.variables,
            "BENCHMARK_DATABASE": self.address(database),
            "BENCHMARK_BROKER": broker.url if broker else "memory://",
            "BENCHMARK_STAMPS": str(self.stamps),
        }

    def address(self, database: str = TURN) -> str:
        """Return the URL of a database."""
        return self.database.url.rpartition("/")[0] + f"/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Execute a statement outside any transaction."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            connection.execute(sql.SQL(statement))

    def ask(self, statement: str, database: str = TURN) -> Any:
        """Return the first value that a statement returns."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            row = connection.execute(sql.SQL(statement)).fetchone()
        return row[0] if row else None

    def _make(self, database: str, template: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {database} TEMPLATE {template}")

    def _users(self, database: str) -> int:
        count: int = self.ask(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'", "postgres"
        )
        return count

    def _empty_broker(self, contestant: Contestant) -> None:
        if contestant.broker in BROKERS and contestant.broker not in self.brokers:
            broker = BROKERS[contestant.broker]()
            self.brokers[contestant.broker] = self.stack.enter_context(broker)
        broker = self.brokers.get(contestant.broker)
        if isinstance(broker, Redis):
            with broker.client() as client:
                client.flushall()
        elif isinstance(broker, RabbitMQ):
            with broker.connect() as connection, connection.channel() as channel:
                channel.queue_delete(QUEUE)


def last_lines(text: str, count: int = 4) -> str:
    """Return the end of what a process said."""
    return "\n".join(text.strip().splitlines()[-count:])
