"""What the cases of a run's faults share: a worker that can be caught anywhere, and outages."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, connections

from tasks_app.crash_points import POINTS, VARIABLE
from tasks_app.leases import process_of
from tasks_app.models import Outcome
from tests import trail
from tests.children import process_table, signal_all
from tests.conftest import SKIPPED
from tests.installation import PATIENCE, SETTINGS, Installation
from tests.processes import Process
from tests.servers import Server
from tests.servers.session import chosen_broker, chosen_database, files, session
from tests.testapp import tasks
from tests.waiting import wait_until

#: Short times again; a lease must outlast what a case does to a run that is to keep it.
TIMES = {"LEASE": SETTINGS["LEASE"], "RESCUE_INTERVAL": 1, "CANCEL_GRACE": 1, "RELAY_INTERVAL": 0.1}

#: A lease that ends within no case.
LONG_LEASE = {**TIMES, "LEASE": 60}

#: Seconds within which a lost run is to run again: lease, rescue interval, the wait before an
#: attempt that follows a crash, and what a busy machine may add.
RESCUED = TIMES["LEASE"] + TIMES["RESCUE_INTERVAL"] + 1 + 10

#: Where the worker of `trapped` can be caught: every point of a run and of its rescue.
PLACES = [point for point in POINTS if not point.startswith(("enqueue", "adopt", "prune"))]

#: Loads the tasks of the faults into a worker, and makes it believe in a child's death soon:
#: Celery waits ten seconds for a result that the child may still have sent.
ARGUMENTS = ("--include", "tests.faults.tasks", "worker_lost_wait=0.5")


class Trapped:
    """
    A worker whose processes stop where a test has armed a crash point, with a queue of its own.

    What has stopped can be let go on, which is a pause, or killed, which is a crash there. Where
    the worker itself is gone, the next use starts another one on the same queue.
    """

    def __init__(self, installation: Installation, settings: dict[str, Any]) -> None:
        self.installation = installation
        self.settings = settings
        self.queue = f"trapped-{uuid4().hex}"
        self.marks = files() / self.queue
        self.marks.mkdir()
        self.process: Process | None = None
        self.disarm()

    def running(self) -> Process:
        """Return the worker, started anew where it has ended."""
        if self.process is None or not self.process.running:
            self.close()
            self.process = self.start()
        return self.process

    def start(self, **options: Any) -> Process:
        """Start one more worker of the queue."""
        armed = ";".join(f"{p}:stop:chance=1,once={self.marks / p}" for p in PLACES)
        options = {"pool": "prefork", "concurrency": 3, "arguments": ARGUMENTS, **options}
        return self.installation.start_worker(
            f"{self.queue}-{uuid4().hex[:4]}",
            settings=self.settings,
            environment={VARIABLE: armed},
            queues=[self.queue],
            **options,
        )

    def disarm(self) -> None:
        """Let nothing stop any more, and let go on what has."""
        for place in PLACES:
            (self.marks / place).touch()
        if self.process is not None:
            self.process.resume()

    def arm(self, place: str) -> None:
        """Make the next process that comes to a place stop there."""
        (self.marks / place).unlink()

    def caught(self, place: str, beside: int = 0) -> int:
        """Return the id of the process that has stopped at a place, beside another one."""
        wait_until((self.marks / place).exists, PATIENCE, lambda: f"{place}\n{self.tail()}")
        return wait_until(lambda: self.stopped(beside), PATIENCE, lambda: f"a stop\n{self.tail()}")

    def stopped(self, beside: int) -> int | None:
        """Return the id of a process of this worker that is stopped, if there is one."""
        family = {*self.running().family()} - {beside}
        return next(
            (pid for pid, _, state in process_table() if pid in family and state[0] in "Tt"), None
        )

    def using(self, task: Any, **options: Any) -> Any:
        """Return a task whose calls go to this worker."""
        return task.using(queue=self.queue, **options)

    def works(self) -> bool:
        """Return whether the worker does its work."""
        self.running()
        return bool(self.using(tasks.add).enqueue(1, 2).get(timeout=PATIENCE) == 3)

    def tail(self) -> str:
        """Return the end of the worker's output."""
        return self.process.tail() if self.process else "no worker"

    def close(self) -> None:
        """End the worker."""
        if self.process is not None:
            self.process.kill()


def lent(worker: Trapped) -> Iterator[Trapped]:
    """Give a worker to one case; afterwards it must do its work again."""
    worker.running()
    yield worker
    worker.disarm()
    assert worker.works()


@pytest.fixture(scope="session")
def trapped_worker(installation: Installation) -> Iterator[Trapped]:
    """The holder of `trapped`."""
    with closing(Trapped(installation, TIMES)) as holder:
        yield holder


@pytest.fixture
def trapped(trapped_worker: Trapped) -> Iterator[Trapped]:
    """A worker to be caught at crash points."""
    yield from lent(trapped_worker)


@pytest.fixture(scope="session")
def patient_worker(installation: Installation) -> Iterator[Trapped]:
    """The holder of `patient`."""
    with closing(Trapped(installation, LONG_LEASE)) as holder:
        yield holder


@pytest.fixture
def patient(patient_worker: Trapped) -> Iterator[Trapped]:
    """A worker whose lease outlasts every fault."""
    yield from lent(patient_worker)


@dataclass(frozen=True)
class Case:
    """What every case of a fault asks: the effects under its key, an outcome's end, the time."""

    key: str
    effects: Callable[[], list[str]]
    settled: Callable[[Outcome], Outcome]
    record_property: Callable[[str, object], None]

    def left(self) -> list[dict[str, Any]]:
        """Return what the case's helpers have left outside the database."""
        return trail.left(self.key)

    def open_gate(self) -> None:
        """Let the case's helpers pass."""
        trail.open_gate(self.key)

    def entered(self, times: int = 1) -> None:
        """Wait until helpers have got into their bodies."""
        wait_until(lambda: len(self.left()) >= times, PATIENCE, f"{times} runs")

    @contextmanager
    def recovers(self, within: float) -> Iterator[None]:
        """Measure what follows the end of a fault, and hold it against a promise in seconds."""
        began = time.monotonic()
        yield
        taken = time.monotonic() - began
        self.record_property("recovered_seconds", round(taken, 2))
        assert taken <= within

    def ends(self, outcome: Outcome) -> list[str]:
        """Return how the runs of an outcome ended, the first one first."""
        return list(outcome.attempts.order_by("fence").values_list("state", flat=True))


@pytest.fixture
def case(
    key: str,
    effects: Callable[[], list[str]],
    settled: Callable[[Outcome], Outcome],
    record_property: Callable[[str, object], None],
) -> Case:
    """The case at hand."""
    return Case(key, effects, settled, record_property)


@pytest.fixture
def database_server() -> Iterator[Server]:
    """The run's database server, which is back whatever a case does to it."""
    if chosen_database() == "sqlite":
        pytest.skip("SQLite has no server")
    server = session.server(chosen_database())
    yield server
    if server.running:
        server.resume()
    back(server)


@pytest.fixture
def broker_server() -> Iterator[Server]:
    """The run's broker, which is back whatever a case does to it."""
    if chosen_broker() == "embedded":
        pytest.skip("the embedded broker is no server")
    server = session.server(chosen_broker())
    yield server
    if server.running:
        server.resume()
    server.start()


def back(server: Server) -> None:
    """Start a database server again and forget this process' connections to what it was."""
    server.start()
    connections.close_all()


def pid_of(outcome: Outcome) -> int:
    """Return the process that runs an outcome."""
    outcome.refresh()
    return process_of(outcome.worker)


def kill(pid: int) -> None:
    """Kill one process, stopped or not."""
    signal_all([pid], signal.SIGKILL)


def go_on(pid: int) -> None:
    """Let a stopped process go on."""
    signal_all([pid], signal.SIGCONT)


def without_sqlite(why: str) -> None:
    """Skip a case on SQLite."""
    if connection.vendor == "sqlite":
        pytest.skip(why)


@contextmanager
def small_disk(folder: Path, size: str, owner: str | None = None) -> Iterator[Path]:
    """Mount a disk of a few hundred kilobytes in a new folder."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        SKIPPED["mount"] = f"a full disk, since none can be mounted: {mounted.stderr.strip()}"
        pytest.skip(SKIPPED["mount"])
    try:
        if owner is not None:
            shutil.chown(folder, owner)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Leave no byte free on a disk during the block."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    ballast.unlink()


def require(there: object, what: str) -> None:
    """Skip a case for want of something on this machine, or fail it under `CI`."""
    if there:
        return
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(what)
    pytest.skip(what)
