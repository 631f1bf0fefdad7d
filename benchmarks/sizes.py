"""
Many rows against few: what everything costs with a million outcomes in the table, and a thousand.

Once all of them are pending, due in an hour and later, and once all have succeeded, with their
attempts. Each table is a database of its own on one server; they take turns.
"""

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import psycopg

from benchmarks import stamps
from benchmarks.contestants import ROOT, Address, Ground
from benchmarks.figures import Better, Ratio, Sheet
from tests.servers import PostgreSQL, Redis
from tests.waiting import wait_until

#: What all rows of a table are.
KINDS = ("pending", "finished")

#: Rows of a small table, and of a large one.
FEW, MANY = 1_000, 1_000_000

#: What is measured without a worker → its unit, and which values are better.
MEASURES: Mapping[str, tuple[str, Better]] = {
    "enqueue": ("calls/s", "higher"),
    "enqueue_many": ("calls/s", "higher"),
    "idle_look": ("ms", "lower"),
    "announcing": ("rows/s", "higher"),
    "rescue_look": ("ms", "lower"),
}

#: Seconds after which a drain that does not end is a failure.
PATIENCE = 600


@dataclass(frozen=True)
class Table:
    """One table, and the process beside it that does what it is asked to."""

    kind: str
    size: str
    ground: Ground
    ask: Callable[[str], float]


def run(sheet: Sheet, rounds: int, most: int = MANY) -> None:
    """Fill the tables once, and let them take turns at every measure."""
    with ExitStack() as stack:
        database, broker = stack.enter_context(PostgreSQL()), stack.enter_context(Redis())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ground = Ground(database, broker, folder)
        ground.migrate()
        tables = [
            stack.enter_context(filled(ground, kind, rows))
            for kind, rows in product(KINDS, (FEW, most))
        ]
        for _ in range(rounds):
            for measure in MEASURES:
                take_turns(sheet, tables, measure)
            for table in shuffled(tables):
                work(sheet, table)


@contextmanager
def filled(ground: Ground, kind: str, rows: int) -> Iterator[Table]:
    """Make a table of a kind, and keep the process beside it for the block."""
    name = f"{kind}_{rows}"
    address = ground.database.url
    with psycopg.connect(address, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE postgres")
    own = replace(ground, database=Address(address.removesuffix("postgres") + name))
    own.run("benchmarks.sized", kind, str(rows))
    with asked(own) as ask:
        yield Table(kind, f"{rows:,} rows", own, ask)


@contextmanager
def asked(ground: Ground) -> Iterator[Callable[[str], float]]:
    """Keep a process that does what the block asks for, and answers with a number."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sized"],
        env=ground.environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def ask(act: str) -> float:
            questions.write(f"{act}\n")
            return float(json.loads(answers.readline()))

        yield ask


def take_turns(sheet: Sheet, tables: Sequence[Table], measure: str) -> None:
    """Take one measure beside each table, in an order drawn anew."""
    unit, better = MEASURES[measure]
    for table in shuffled(tables):
        value = table.ask(measure)
        table.ask("clear")
        sheet.add(f"{measure}, {table.kind}", table.size, value, unit=unit, better=better)


def work(sheet: Sheet, table: Table) -> None:
    """Let a worker of two processes drain a backlog beside a table, then answer single calls."""
    table.ground.clear()
    tasks = int(table.ask("backlog"))
    worker = table.ground.worker("with_outcomes")
    try:
        speed = drain(table.ground, tasks, lambda: worker.running)
        milliseconds = table.ask("latency")
        worker.terminate()
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{worker.tail()}") from None
    finally:
        worker.kill()
    table.ask("clear")
    sheet.add(f"drain, {table.kind}", table.size, speed, unit="tasks/s", better="higher")
    sheet.add(f"latency, {table.kind}", table.size, milliseconds, unit="ms", better="lower")


def drain(ground: Ground, tasks: int, is_alive: Callable[[], bool]) -> float:
    """Return the tasks per second between the first and the last call."""
    wait_until(
        lambda: stamps.count(ground.stamps) >= tasks or not is_alive(), PATIENCE, "all tasks"
    )
    times = stamps.read(ground.stamps)
    if len(times) != tasks:
        raise TimeoutError(f"the worker ran {len(times)} of {tasks} tasks")
    return (tasks - 1) / (times[-1] - times[0])


def shuffled(tables: Sequence[Table]) -> list[Table]:
    """Return the tables in an order drawn anew, so that the machine's moods meet all alike."""
    return random.sample(tables, len(tables))


def tell(sheet: Sheet) -> None:
    """Print how many times slower each measure is beside many rows."""
    for measure in dict.fromkeys(figure.measure for figure in sheet):
        few, many = sheet.of(measure)
        print(
            f"{measure:24} {few.median:10,.2f} {many.median:10,.2f} {few.unit:8}"
            f" times slower: {slowdown(sheet, measure)}"
        )


def slowdown(sheet: Sheet, measure: str) -> Ratio:
    """Return how many times slower a measure is beside many rows than beside few."""
    few, many = sheet.of(measure)
    if few.better == "higher":
        return sheet.ratio(measure, few.contestant, many.contestant)
    return sheet.ratio(measure, many.contestant, few.contestant)
