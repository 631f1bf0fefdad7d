"""The pairs of database and broker, and how a folder of tests runs on one of them.

Each run is a pytest process of its own with servers of its own, so that Django and Celery are
configured once, as in a real installation. By hand, the scenarios of `tests/conformance`:

    python -m tests.pairs                          every pair with installed servers
    python -m tests.pairs postgres-redis           one pair
    python -m tests.pairs postgres-redis-threads   the same on another pool
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.servers.session import BROKERS, DATABASES, KINDS

ROOT = Path(__file__).parent.parent

SCENARIOS = ROOT / "tests" / "conformance" / "scenarios"

#: Seconds after which a run that hangs is ended.
TIMEOUT = 900

#: Tests with workers mostly wait, so four share a small machine without slowing each other much.
AT_A_TIME = 4

Run = subprocess.CompletedProcess[str]


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

    def report(self, folder: Path) -> list[str]:
        """Return the option that leaves a JUnit report, where `TASKS_TEST_REPORTS` wants one."""
        reports = os.environ.get("TASKS_TEST_REPORTS")
        if not reports:
            return []
        suite = folder.relative_to(ROOT / "tests").parts[0]
        name = f"{suite}-{folder.stem}-{self}.xml"
        return [f"--junitxml={Path(reports).absolute() / name}"]

    def begin(self, folder: Path, arguments: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a run of a folder's tests on this pair."""
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", str(folder), "-q", *self.report(folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(),
            cwd=ROOT,
        )


def end(process: subprocess.Popen[str]) -> Run:
    """Wait for the end of a run; one that hangs is ended."""
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, _ = process.communicate()
    return Run(process.args, process.returncode, output)


#: Every database with every broker on the prefork pool, and each other pool once.
PAIRS = [
    *(Pair(database, broker) for database in DATABASES for broker in BROKERS),
    Pair("postgres", "redis", "threads"),
    Pair("sqlite", "embedded", "solo"),
]


class Runs:
    """The runs of one test session, started together and worked off a few at a time."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(AT_A_TIME)
        self.started: dict[tuple[Pair, Path], Future[Run]] = {}
        self.living: set[subprocess.Popen[str]] = set()

    def start(self, pair: Pair, folder: Path) -> None:
        """Run a folder's tests on a pair whose servers are here, beside whatever else goes on."""
        if (pair, folder) not in self.started and not pair.missing():
            self.started[pair, folder] = self.threads.submit(self.run, pair, folder)

    def run(self, pair: Pair, folder: Path) -> Run:
        """Run a folder's tests on a pair, as long as the session lasts."""
        process = pair.begin(folder)
        self.living.add(process)
        try:
            return end(process)
        finally:
            self.living.discard(process)

    def result(self, pair: Pair, folder: Path) -> Run:
        """Wait for a run that was started."""
        return self.started[pair, folder].result()

    def close(self) -> None:
        """Forget what has not begun and end what nobody waits for any more."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self.living):
            process.terminate()
        self.threads.shutdown()


def main(arguments: Sequence[str]) -> int:
    """Run the named pairs, or all; options for pytest may follow. Return the exit code."""
    names = [argument for argument in arguments if not argument.startswith("-")]
    options = [argument for argument in arguments if argument.startswith("-")]
    failed = 0
    for pair in [Pair.parse(name) for name in names] or PAIRS:
        if missing := pair.missing():
            report(f"{pair}: NOT TESTED: {'; '.join(missing)}")
            continue
        run = end(pair.begin(SCENARIOS, options))
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
