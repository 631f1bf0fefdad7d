"""Contestants as processes: each gets its own interpreter, and servers that start empty."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.children import Child
from tests.servers import PostgreSQL, Redis

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Address:
    """A database, or a broker, that is no server of its own."""

    url: str


@dataclass(frozen=True)
class Ground:
    """The servers and the folder of one benchmark."""

    database: PostgreSQL | Address
    broker: Redis | Address
    folder: Path

    @property
    def stamps(self) -> Path:
        return self.folder / "stamps"

    def environment(self) -> Mapping[str, str]:
        """Return the environment of every contestant's process."""
        path = os.environ.get("PYTHONPATH", "")
        return {
            **os.environ,
            "BENCHMARK_DATABASE": self.database.url,
            "BENCHMARK_BROKER": self.broker.url,
            "BENCHMARK_STAMPS": str(self.stamps),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), path])),
        }

    def run(self, *arguments: str) -> str:
        """Run a Python module to its end in a contestant's environment; return its output."""
        command = [sys.executable, "-m", *arguments]
        run = subprocess.run(
            command, env=self.environment(), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        )
        return run.stdout

    def start(self, name: str, *arguments: str) -> Child:
        """Start a Python module in a contestant's environment."""
        command = [sys.executable, "-m", *arguments]
        log = self.folder / f"{name}.log"
        return Child(name, command, log=log, environment=self.environment(), folder=ROOT)

    def worker(self, contestant: str, *options: str) -> Child:
        """Start a contestant's worker with two processes."""
        pool = ("--pool", "prefork", "--concurrency", "2", "--loglevel", "WARNING")
        app = f"benchmarks.{contestant}"
        return self.start(contestant, "celery", "-A", app, "worker", *pool, *options)

    def migrate(self) -> None:
        """Make the tables of all contestants."""
        self.run("django", "migrate", "--verbosity", "0", "--settings", "benchmarks.settings")

    def clear(self) -> None:
        """Empty the file of stamps, and the broker where it is a server."""
        if isinstance(self.broker, Redis):
            with self.broker.client() as client:
                client.flushall()
        self.stamps.write_bytes(b"")
