"""The soak's processes: workers, a relay and clients, each started again whenever it ends.

The restarting is the part of a supervisor such as systemd. A process that ends although no fault
and no crash point ended it is a finding.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks_app.crash_points import POINTS
from tests.children import LIVING, descendants
from tests.processes import Process, launch

SETTINGS_MODULE = "tests.soak.settings"

#: Queue of the probes.
PROBES = "probes"

#: Environment variable that tells a process how many came before it in its place.
START = "TASKS_SOAK_START"

#: What a killed process says before it kills itself.
CRASHED = "crash point "


def points(*places: str) -> list[str]:
    """Return the crash points of some places."""
    return [name for name in POINTS if name.startswith(places)]


#: Points of a process by its role, and the chance that a visit of one of them is the last.
CRASHES: Mapping[str, tuple[Sequence[str], float]] = {
    "worker": (points("claim", "run", "success", "failure", "renew"), 0.004),
    "relay": (points("relay", "rescue"), 0.004),
    "client": (points("enqueue", "cancel"), 0.002),
}


@dataclass
class Member:
    """
    One place for a process, and the process in it.

    Attributes:
        role: worker, relay or client.
        ready: What it writes when it is at work.
        crashes: Whether its processes have crash points.
        is_spared: Faults may hit its children, but not end its main process.
        pids: Every main process that it ever had.
        is_excused: The end of the present process is the work of a fault.
        has_orphans: That fault left the children to themselves.
    """

    name: str
    role: str
    command: Sequence[str]
    ready: str
    folder: Path
    environment: Mapping[str, str]
    seed: str
    crashes: bool = False
    is_spared: bool = False
    process: Process | None = None
    pids: list[int] = field(default_factory=list)
    is_excused: bool = False
    has_orphans: bool = False

    def start(self) -> None:
        """Start the next process of this place."""
        number = len(self.pids)
        self.is_excused = self.has_orphans = False
        self.process = launch(
            self.folder,
            f"{self.name}-{number:03}",
            self.command,
            {**self.environment, "TASKS_APP_CRASH": self.traps(number), START: str(number)},
        )
        self.pids.append(self.process.pid)

    def traps(self, number: int) -> str:
        """Return the crash points of a process: three of its role's, by the dice."""
        if not self.crashes:
            return ""
        points, chance = CRASHES[self.role]
        dice = random.Random(f"{self.seed}/{self.name}/{number}")
        chosen = dice.sample(points, 3)
        seed = dice.randrange(1_000_000)
        return ";".join(f"{name}:kill:chance={chance},seed={seed}" for name in chosen)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    @property
    def is_ready(self) -> bool:
        """Whether the process is at work."""
        return self.process is not None and self.process.running and self.ready in self.head()

    def head(self) -> str:
        """Return the beginning of the process' log."""
        with self.current.log.open(errors="replace") as log:
            return log.read(20_000)

    @property
    def current(self) -> Process:
        if self.process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self.process

    def children(self) -> list[int]:
        """Return the ids of the pool's processes."""
        return descendants(self.current.pid)

    def bury(self) -> str | None:
        """Clear away what an ended process left; return a line if it ended by itself."""
        process = self.current
        if self.has_orphans:
            LIVING.discard(process)
        else:
            process.kill()
        code = process.process.returncode
        crashed = code == -signal.SIGKILL and CRASHED in process.tail(5)
        if self.is_excused or crashed:
            return None
        return f"{process.name} ended by itself with {code}; see {process.log}"

    def stop(self) -> None:
        """Ask the process to end."""
        self.is_excused = True
        self.current.send(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and its children at once."""
        self.is_excused = True
        self.current.kill()

    def left_over(self) -> list[int]:
        """Return the former main processes that still have children."""
        former = set(self.pids) - {self.current.pid}
        return sorted(former & {group for group, folder in groups() if folder == self.folder})


def groups() -> Iterator[tuple[int, Path]]:
    """Yield the process group of each process, and the files that it was given; ids come again."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "environ").read_bytes().split(b"\0")
            given = [word for word in words if word.startswith(b"TASKS_TEST_FILES=")]
            if given:
                folder = os.fsdecode(given[0].partition(b"=")[2])
                yield os.getpgid(int(path.name)), Path(folder)


def worker(name: str, folder: Path, environment: Mapping[str, str], seed: str) -> Member:
    """Return a place for a worker of two processes."""
    command = [
        *("celery", "-A", "tests.project", "worker", "--loglevel", "INFO"),
        *("--hostname", f"{name}@%h", "--pool", "prefork", "--concurrency", "2"),
        *("--queues", f"celery,{PROBES}"),
    ]
    return Member(name, "worker", command, " ready.", folder, _own(environment), seed)


def relay(name: str, folder: Path, environment: Mapping[str, str], seed: str) -> Member:
    """Return a place for a relay alone."""
    command = ["django", "tasks", "relay"]
    return Member(name, "relay", command, "The relay runs", folder, _own(environment), seed)


def client(name: str, folder: Path, environment: Mapping[str, str], seed: str) -> Member:
    """Return a place for a client."""
    command = ["tests.soak.client", name, seed, str(folder)]
    return Member(name, "client", command, "calls.", folder, _own(environment), seed)


def _own(environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "DJANGO_SETTINGS_MODULE": SETTINGS_MODULE}
