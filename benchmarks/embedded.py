"""
Without a server: the embedded default beside Celery's filesystem broker with results in SQLite.

Each contestant gets a folder of its own in each round, with its database and its broker in it.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from benchmarks import stamps
from benchmarks.contestants import Address, Ground
from benchmarks.figures import Sheet
from tests.waiting import wait_until

OWN, CELERY = "with_files", "with_celery_files"
CONTESTANTS = (OWN, "with_plain_files", CELERY)

#: What is measured, as the sheet calls it.
DRAIN, LATENCY = "embedded drain", "embedded latency p50"

#: Seconds after which a drain that does not end is a failure.
PATIENCE = 600


def run(
    sheet: Sheet,
    rounds: int,
    contestants: Sequence[str] = CONTESTANTS,
    tasks: int = 3_000,
    calls: int = 30,
) -> None:
    """Let the contestants drain a backlog and then answer single calls, in turns."""
    with ExitStack() as stack:
        empty = ground_in(stack)
        empty.run("django", "migrate", "-v", "0", "--settings", "benchmarks.files_settings")
        for _, contestant in product(range(rounds), contestants):
            with ExitStack() as turn:
                ground = ground_in(turn)
                shutil.copy(empty.database.url, ground.database.url)
                speed, milliseconds = measure(ground, contestant, tasks, calls)
            sheet.add(DRAIN, contestant, speed, unit="tasks/s", better="higher")
            sheet.add(LATENCY, contestant, milliseconds, unit="ms", better="lower")


def ground_in(stack: ExitStack) -> Ground:
    """Return the addresses of a database and a broker in a folder that goes with the stack."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    database, broker = folder / "database.sqlite3", folder / "broker"
    return Ground(Address(str(database)), Address(str(broker)), folder)


def measure(ground: Ground, contestant: str, tasks: int, calls: int) -> tuple[float, float]:
    """Return the tasks per second of a drain, and the milliseconds of a call while idle."""
    ground.clear()
    ground.run("benchmarks.fill", contestant, str(tasks))
    worker = ground.worker(contestant)
    try:
        wait_until(
            lambda: stamps.count(ground.stamps) >= tasks or not worker.running,
            PATIENCE,
            lambda: f"the end of all tasks\n{worker.tail()}",
        )
        times = stamps.read(ground.stamps)
        if len(times) != tasks:
            sys.exit(f"{contestant} ran {len(times)} of {tasks} tasks\n{worker.tail()}")
        milliseconds = float(ground.run("benchmarks.answers", contestant, str(calls)))
        worker.terminate()
    finally:
        worker.kill()
    return (tasks - 1) / (times[-1] - times[0]), milliseconds


def tell(sheet: Sheet) -> None:
    """Print each contestant's medians, and the first one's ratios to the others."""
    for measure_name in (DRAIN, LATENCY):
        first, *others = sheet.of(measure_name)
        for figure in (first, *others):
            print(f"{measure_name:22} {figure.contestant:18} {figure.median:10,.2f} {figure.unit}")
        for other in others:
            ratio = sheet.ratio(measure_name, first.contestant, other.contestant)
            print(f"{measure_name:22} {first.contestant} / {other.contestant}: {ratio}")
