"""Draining: how fast a worker of two processes gets through a backlog of no-op calls."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import stamps
from benchmarks.contestants import Ground
from benchmarks.report import Rounds
from tests.servers import PostgreSQL, Redis
from tests.waiting import wait_until

CONTESTANTS = ("with_outcomes", "with_results", "with_plain_results", "with_celery")

#: The same project with and without logs, request ids and metrics.
OBSERVING = ("observed", "unobserved")

#: Seconds after which a drain that does not end is a failure.
PATIENCE = 600


def run(contestants: Sequence[str], tasks: int, rounds: int) -> None:
    """Let the contestants drain in turns and print each one's speed and the ratios."""
    seen = Rounds("tasks/s")
    with PostgreSQL() as database, Redis() as broker, tempfile.TemporaryDirectory() as folder:
        ground = Ground(database, broker, Path(folder))
        ground.migrate()
        for number in range(rounds):
            for contestant in contestants:
                seen.add(contestant, _drain(ground, contestant, tasks))
            seen.tell_round(number)
    seen.tell()


def _drain(ground: Ground, contestant: str, tasks: int) -> float:
    """Return the tasks per second between the first and the last call."""
    ground.clear()
    ground.run("benchmarks.fill", contestant, str(tasks))
    worker = ground.worker(contestant)
    try:
        wait_until(
            lambda: stamps.count(ground.stamps) >= tasks or not worker.running,
            PATIENCE,
            lambda: f"the end of all tasks\n{worker.tail()}",
        )
        worker.terminate()
    finally:
        worker.kill()
    times = stamps.read(ground.stamps)
    if len(times) != tasks:
        sys.exit(f"{contestant} ran {len(times)} of {tasks} tasks\n{worker.tail()}")
    return (tasks - 1) / (times[-1] - times[0])
