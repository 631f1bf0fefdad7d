"""Enqueueing: how fast calls are recorded in bulk and one by one, beside Celery's own publish."""

import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.contestants import Ground
from benchmarks.report import Rounds
from tests.servers import PostgreSQL, Redis

#: Module and function of each way to enqueue.
CONTESTANTS = ("with_outcomes.bulk", "with_outcomes.one_by_one", "with_celery.one_by_one")


def run(contestants: Sequence[str], tasks: int, rounds: int) -> None:
    """Let the contestants enqueue in turns and print each one's speed and the ratios."""
    seen = Rounds("calls/s")
    with PostgreSQL() as database, Redis() as broker, tempfile.TemporaryDirectory() as folder:
        ground = Ground(database, broker, Path(folder))
        ground.migrate()
        for number in range(rounds):
            for contestant in contestants:
                ground.clear()
                seconds = float(ground.run("benchmarks.enqueue", contestant, str(tasks)))
                seen.add(contestant, tasks / seconds)
            seen.tell_round(number)
    seen.tell()


def measure(contestant: str, tasks: int) -> float:
    """Return the seconds that a contestant takes, once its connections are open."""
    module, way = contestant.split(".")
    enqueue = getattr(import_module(f"benchmarks.{module}"), way)
    enqueue(range(10))
    began = time.perf_counter()
    enqueue(range(tasks))
    return time.perf_counter() - began


if __name__ == "__main__":
    print(measure(sys.argv[1], int(sys.argv[2])))
