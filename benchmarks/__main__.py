"""Run a benchmark by its name: `python -m benchmarks drain`."""

import argparse
import sys
from collections.abc import Callable, Mapping

from benchmarks import (
    console,
    drain,
    embedded,
    enqueue,
    footprint,
    latency,
    logging,
    losses,
    metrics,
    periodic,
    relaying,
    sizes,
)
from benchmarks.figures import Sheet
from benchmarks.report import tell_sheet

Given = argparse.Namespace


def losses_of(given: Given) -> None:
    """Count what is lost beside each contestant."""
    contestants = given.only or losses.CONTESTANTS
    tasks = given.tasks or 1_000
    losses.run(contestants, tasks, given.seed, spares_broker=given.spare_broker)


def embedded_of(given: Given) -> None:
    """Compare the embedded default."""
    sheet = Sheet()
    embedded.run(sheet, given.rounds, given.only or embedded.CONTESTANTS, given.tasks or 1_000)
    embedded.tell(sheet)


def sizes_of(given: Given) -> None:
    """Compare a small table with a large one."""
    sheet = Sheet()
    sizes.run(sheet, given.rounds, given.rows)
    sizes.tell(sheet)


def sheet_of(run: Callable[[Sheet, int], None]) -> Callable[[Given], None]:
    """Return what runs a benchmark that notes its figures on a sheet, and prints them."""

    def tell(given: Given) -> None:
        sheet = Sheet()
        run(sheet, given.rounds)
        tell_sheet(sheet)

    return tell


#: Name → what runs it, with the defaults of its own.
BENCHMARKS: Mapping[str, Callable[[Given], None]] = {
    "console": lambda given: console.run(given.rows, given.rounds, given.pages),
    "drain": lambda given: drain.run(
        given.only or drain.CONTESTANTS, given.tasks or 5_000, given.rounds
    ),
    "embedded": embedded_of,
    "enqueue": lambda given: enqueue.run(
        given.only or enqueue.CONTESTANTS, given.tasks or 10_000, given.rounds
    ),
    "footprint": sheet_of(footprint.run),
    "latency": lambda given: latency.run(
        given.only or latency.BROKERS, given.tasks or 2_000, given.rounds
    ),
    "logging": lambda given: logging.run(
        given.only or logging.PARTS, given.tasks or 20_000, given.rounds
    ),
    "losses": losses_of,
    "metrics": lambda given: metrics.run(given.tasks or 1_000_000, given.rounds),
    "observing": lambda given: drain.run(
        given.only or drain.OBSERVING, given.tasks or 5_000, given.rounds
    ),
    "periodic": lambda given: periodic.run(given.tasks or 10_000, given.seconds, given.only or ()),
    "relaying": sheet_of(relaying.run),
    "sizes": sizes_of,
}


def main(words: list[str]) -> None:
    """Read the command line and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--tasks", type=int, help="calls per contestant and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=180, help="per contestant of periodic")
    parser.add_argument("--seed", type=int, default=1, help="of the faults of losses")
    parser.add_argument("--spare-broker", action="store_true", help="losses by kills alone")
    parser.add_argument("--rows", type=int, default=1_000_000, help="outcomes of console and sizes")
    parser.add_argument("--pages", nargs="+", default=(), help="of console; by default all")
    parser.add_argument("--only", nargs="+", metavar="CONTESTANT", help="by default all")
    given = parser.parse_args(words)
    BENCHMARKS[given.benchmark](given)


main(sys.argv[1:])
