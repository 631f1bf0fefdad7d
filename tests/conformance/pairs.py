"""The pairs of database and broker, and how the scenarios run on one of them.

Each pair is a pytest process of its own with servers of its own, so that Django and Celery are
configured once, as in a real installation. By hand:

    python -m tests.conformance.pairs                          every pair with installed servers
    python -m tests.conformance.pairs postgres-redis           one pair
    python -m tests.conformance.pairs postgres-redis-threads   the same on another pool
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.servers.session import BROKERS, DATABASES, KINDS

SCENARIOS = Path(__file__).parent / "scenarios"

#: Seconds after which a run that hangs is ended.
TIMEOUT = 600


@dataclass(frozen=True)
class Pair:
    """A database and a broker, and the pool of the worker between them."""

    database: str
    broker: str
    pool: str = "prefork"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Return the pair of a name such as `postgres-redis` or `postgres-redis-solo`."""
        return cls(*name.split("-"))

    def __str__(self) -> str:
        words = [self.database, self.broker]
        return "-".join(words if self.pool == "prefork" else [*words, self.pool])

    def kinds(self) -> list[str]:
        """Return the kinds of server that this pair needs."""
        return [kind for kind in (self.database, self.broker) if kind in KINDS]

    def missing(self) -> list[str]:
        """Return one line for each server that is not installed."""
        return [missing for kind in self.kinds() if (missing := KINDS[kind].missing())]

    def environment(self) -> dict[str, str]:
        """Return the environment of this pair's run, without the addresses of another run."""
        own = ("TASKS_TEST_DATABASE_URL", "TASKS_TEST_BROKER_URL", "TASKS_TEST_FILES")
        inherited = {name: value for name, value in os.environ.items() if name not in own}
        return {
            **inherited,
            "TASKS_TEST_DATABASE": self.database,
            "TASKS_TEST_BROKER": self.broker,
            "TASKS_TEST_POOL": self.pool,
        }

    def run(self, arguments: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run every scenario on this pair and return how that ended."""
        return subprocess.run(
            [sys.executable, "-m", "pytest", str(SCENARIOS), "-q", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(),
            cwd=SCENARIOS.parents[2],
            timeout=TIMEOUT,
            check=False,
        )


#: Every database with every broker on the prefork pool, and each other pool once.
PAIRS = [
    *(Pair(database, broker) for database in DATABASES for broker in BROKERS),
    Pair("postgres", "redis", "threads"),
    Pair("sqlite", "embedded", "solo"),
]


def main(arguments: Sequence[str]) -> int:
    """Run the named pairs, or all; options for pytest may follow. Return the exit code."""
    names = [argument for argument in arguments if not argument.startswith("-")]
    options = [argument for argument in arguments if argument.startswith("-")]
    failed = 0
    for pair in [Pair.parse(name) for name in names] or PAIRS:
        if missing := pair.missing():
            report(f"{pair}: NOT TESTED: {'; '.join(missing)}")
            continue
        run = pair.run(options)
        failed += run.returncode != 0
        report(f"{pair}: {run.stdout.strip().splitlines()[-1]}")
        if run.returncode:
            report(run.stdout)
    return min(failed, 1)


def report(text: str) -> None:
    """Tell whoever started this by hand."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
