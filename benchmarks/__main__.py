"""Run a benchmark by its name: `python -m benchmarks drain`."""

import argparse

from benchmarks import console, drain, enqueue, latency, logging, losses, metrics, periodic

BENCHMARKS = (
    "console",
    "drain",
    "enqueue",
    "latency",
    "logging",
    "losses",
    "metrics",
    "observing",
    "periodic",
)


def main() -> None:
    """Read the command line and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--tasks", type=int, help="calls per contestant and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=180, help="per contestant of periodic")
    parser.add_argument("--seed", type=int, default=1, help="of the faults of losses")
    parser.add_argument("--spare-broker", action="store_true", help="losses by kills alone")
    parser.add_argument("--rows", type=int, default=1_000_000, help="outcomes of console")
    parser.add_argument("--pages", nargs="+", default=(), help="of console; by default all")
    parser.add_argument("--only", nargs="+", metavar="CONTESTANT", help="by default all")
    given = parser.parse_args()
    if given.benchmark == "drain":
        drain.run(given.only or drain.CONTESTANTS, given.tasks or 5_000, given.rounds)
    elif given.benchmark == "observing":
        drain.run(given.only or drain.OBSERVING, given.tasks or 5_000, given.rounds)
    elif given.benchmark == "losses":
        contestants = given.only or losses.CONTESTANTS
        tasks = given.tasks or 1_000
        losses.run(contestants, tasks, given.seed, spares_broker=given.spare_broker)
    elif given.benchmark == "logging":
        logging.run(given.only or logging.PARTS, given.tasks or 20_000, given.rounds)
    elif given.benchmark == "latency":
        latency.run(given.only or latency.BROKERS, given.tasks or 2_000, given.rounds)
    elif given.benchmark == "console":
        console.run(given.rows, given.rounds, given.pages)
    elif given.benchmark == "metrics":
        metrics.run(given.tasks or 1_000_000, given.rounds)
    elif given.benchmark == "periodic":
        periodic.run(given.tasks or 10_000, given.seconds, given.only or ())
    else:
        enqueue.run(given.only or enqueue.CONTESTANTS, given.tasks or 10_000, given.rounds)


main()
