"""
How many workers a load needs: `python -m benchmarks.simulation --rate 20 --burst 6000 --age 60`.

Calls come one by one at a rate, and once a burst of them at one moment. Told are the workers that
keep the oldest due outcome younger than a given age, what fewer of them would mean, and what an
autoscaler makes of it. `--chart FILE` draws the three, `--metrics FILE --task NAME` takes the
times of runs from a saved page `/tasks/metrics`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random

from benchmarks.simulation import services
from benchmarks.simulation.model import (
    Course,
    Plant,
    Relays,
    Scaler,
    Simulation,
    arrivals,
    with_burst,
    workers_needed,
)

#: Seconds after the start at which the burst comes.
BURST_AT = 120

#: Seconds between two points of a chart, and what an autoscaler sees.
SAMPLE = 5


def main() -> None:
    """Read the command line and tell."""
    given = options()
    plant = Plant(
        workers=0, processes=given.processes, relays=relays(given), overhead=given.overhead
    )
    course = partial(course_of, given, service_of(given))
    needed = workers_needed(plant, course, given.age)
    usual = workers_needed(plant, partial(course, burst=0), given.age)
    scaler = Scaler(target=given.age, most=max(2 * needed, usual), start=given.start)
    courses = {
        f"{usual} workers, enough without the burst": course(replace(plant, workers=usual)),
        f"{needed} workers, enough with it": course(replace(plant, workers=needed)),
        f"{usual} workers and an autoscaler": course(replace(plant, workers=usual, scaler=scaler)),
    }
    for name, each in courses.items():
        hours = SAMPLE * sum(each.workers) / 3600
        print(f"{name}: oldest age {each.oldest:,.0f} s, {hours:,.1f} worker hours")
    if given.chart:
        import_module("benchmarks.simulation.chart").draw(courses, given.age, given.chart)


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--rate", type=float, default=20, help="calls per second (%(default)s)")
    parser.add_argument("--burst", type=int, default=6_000, help="calls at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1_800, help="of calls (%(default)s)")
    parser.add_argument("--age", type=float, default=60, help="oldest, in seconds (%(default)s)")
    parser.add_argument("--run", type=float, default=0.2, help="mean seconds (%(default)s)")
    parser.add_argument("--metrics", type=Path, help="a saved /tasks/metrics, in place of --run")
    parser.add_argument("--task", help="whose runs are taken from it")
    parser.add_argument("--overhead", type=float, default=0.005, help="per run (%(default)s s)")
    parser.add_argument("--processes", type=int, default=4, help="per worker (%(default)s)")
    parser.add_argument("--start", type=float, default=20, help="of a new worker (%(default)s s)")
    parser.add_argument("--relays", type=int, default=1, help="that run (%(default)s)")
    parser.add_argument("--max-in-flight", type=int, default=Relays.max_in_flight)
    parser.add_argument("--relay-interval", type=float, default=Relays.longest)
    parser.add_argument("--seed", type=int, default=1, help="of the dice (%(default)s)")
    parser.add_argument("--chart", type=Path, help="draw the ages into this file")
    return parser.parse_args()


def relays(given: argparse.Namespace) -> Relays:
    """Return the relays as they are set."""
    return Relays(given.relays, max_in_flight=given.max_in_flight, longest=given.relay_interval)


def service_of(given: argparse.Namespace) -> services.Service:
    """Return how long runs take."""
    if given.metrics:
        return services.of_metrics(given.metrics.read_text(), given.task)
    return services.exponential(given.run)


def course_of(
    given: argparse.Namespace, service: services.Service, plant: Plant, *, burst: int | None = None
) -> Course:
    """Simulate the load on a plant, with the same calls whatever the plant."""
    calls = arrivals(given.rate, given.seconds, Random(given.seed))
    size = given.burst if burst is None else burst
    simulation = Simulation(plant, with_burst(calls, BURST_AT, size), service, given.seed)
    return simulation.run(SAMPLE)


main()
