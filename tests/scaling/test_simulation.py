"""The simulation against queueing theory, and against what its parts promise."""

from __future__ import annotations

import heapq
import math
from random import Random
from statistics import fmean

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from benchmarks.simulation import services
from benchmarks.simulation.model import (
    Plant,
    Relays,
    Scaler,
    Simulation,
    arrivals,
    with_burst,
    workers_needed,
)
from tasks_app import relay, wakeups
from tasks_app.conf import SETTINGS

#: Relays that take no time and have no bounds: what remains are processes and their queue.
INSTANT = Relays(batch=10**9, max_in_flight=2 * 10**9, shortest=0, longest=0, look=0, row=0)


def erlang_c(servers: int, load: float) -> float:
    """Return the chance that a call has to wait, where so many servers are offered a load."""
    parts = [load**n / math.factorial(n) for n in range(servers + 1)]
    busy = parts[-1] * servers / (servers - load)
    return busy / (sum(parts[:-1]) + busy)


def waits(rate: float, service: services.Service, processes: int) -> list[float]:
    """Return the waits of calls that come independently, in eight courses of 5,000."""
    plant = Plant(workers=1, processes=processes, relays=INSTANT)
    return [
        wait
        for seed in range(8)
        for wait in Simulation(
            plant, arrivals(rate, 5_000 / rate, Random(100 + seed)), service, seed
        )
        .run()
        .waits
    ]


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (4, 2.4), (8, 5.6)])
def test_waits_are_those_of_erlang(servers, load):
    """M/M/c: the mean wait, and the share of calls that wait at all, within 8 %."""
    found = waits(load, services.exponential(1), servers)
    chance = erlang_c(servers, load)
    assert fmean(found) == pytest.approx(chance / (servers - load), rel=0.08)
    assert fmean(wait > 0 for wait in found) == pytest.approx(chance, rel=0.08)


def test_each_wait_is_that_of_the_recursion():
    """First come, first served: whoever comes next waits for the process that is free first."""
    due = list(arrivals(3.6, 3_000, Random(5)))
    free, dice, expected = [0.0] * 4, Random(1), []
    for moment in due:
        start = max(moment, heapq.heappop(free))
        expected.append(start - moment)
        heapq.heappush(free, start + dice.lognormvariate(-0.5, 1))
    plant = Plant(workers=1, processes=4, relays=INSTANT)
    course = Simulation(plant, due, lambda dice: dice.lognormvariate(-0.5, 1), seed=1).run()
    assert course.waits == pytest.approx(expected)
    assert course.end == pytest.approx(max(free))


def test_even_runs_halve_the_wait():
    """M/D/1 waits half as long as M/M/1, as Pollaczek and Khinchine have it."""
    found = waits(0.8, services.constant(1), 1)
    assert fmean(found) == pytest.approx(0.8 / (2 * (1 - 0.8)), rel=0.08)


def test_a_burst_is_worked_off_round_by_round():
    """Ten calls of a second by two processes: the last two wait for four seconds."""
    plant = Plant(workers=1, processes=2, relays=INSTANT)
    course = Simulation(plant, [0.0] * 10, services.constant(1)).run()
    assert course.waits == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert (course.oldest, course.end) == (4, 5)


def test_what_is_enqueued_together_is_announced_together():
    """One look takes a burst of a batch's size; what it waits for is the look."""
    relays = Relays(look=0.1, row=0)
    course = Simulation(Plant(workers=99, relays=relays), [0.0] * 99, services.constant(1)).run()
    assert len(set(course.waits)) == 1


def test_what_a_run_costs_beside_itself_counts():
    """The process is busy with it, too."""
    plant = Plant(workers=1, relays=INSTANT, overhead=0.5)
    assert Simulation(plant, [0.0] * 3, services.constant(1)).run().end == 4.5


def test_relays_look_as_the_package_has_it():
    """The defaults of the model are those of the code."""
    relays = Relays()
    assert relays.batch == relay.BATCH
    assert relays.max_in_flight == SETTINGS["MAX_IN_FLIGHT"].default
    assert relays.shortest == wakeups.SHORTEST
    assert relays.longest == SETTINGS["RELAY_INTERVAL"].default


def test_the_broker_holds_no_more_than_it_may():
    """Nobody takes messages: the rows stay in the table."""
    simulation = Simulation(Plant(workers=0), [0.0] * 1_000, services.constant(1))
    while simulation.now < 60:
        simulation.step()
    assert simulation.at_the_broker == Relays.max_in_flight


def test_a_queue_that_is_nearly_full_is_not_topped_up():
    """One process: fifty messages later there are fifty less, since a look is for a batch."""
    simulation = Simulation(Plant(workers=1), [0.0] * 1_000, services.constant(1))
    while simulation.now < 50:
        simulation.step()
    assert Relays.max_in_flight // 2 < simulation.at_the_broker < Relays.max_in_flight - 40


def test_a_relay_that_has_slept_long_is_late_by_half_an_interval():
    """In the mean of calls after an hour of nothing; by an interval at most."""
    found = [
        Simulation(Plant(workers=1), [3_600 + place / 37], services.constant(1)).run().oldest
        for place in range(37)
    ]
    assert fmean(found) == pytest.approx(Relays.longest / 2, rel=0.2)
    assert max(found) <= Relays.longest + 2 * Relays.look + Relays.row


def test_a_relay_is_a_bound_where_processes_are_many():
    """No number of workers is faster than the relay."""
    relays = Relays(row=0.001, max_in_flight=400)
    plant = Plant(workers=10_000, relays=relays)
    course = Simulation(plant, [0.0] * 10_000, services.constant(0.01)).run()
    assert course.end > 10_000 * 0.001


def test_two_relays_share_the_rows():
    """Each row is taken once, and twice as many are taken in the same time."""
    ends = []
    for number in (1, 2):
        relays = Relays(number=number, row=0.001, max_in_flight=1_000)
        plant = Plant(workers=10_000, relays=relays)
        course = Simulation(plant, [0.0] * 10_000, services.constant(0.01)).run()
        assert len(course.waits) == 10_000
        ends.append(course.end)
    assert ends[1] == pytest.approx(ends[0] / 2, rel=0.2)


def test_the_workers_that_a_target_needs():
    """A hundred seconds of work, of which the last must start within nine: ten workers."""

    def course_of(plant):
        return Simulation(plant, [0.0] * 100, services.constant(1)).run()

    plant = Plant(workers=0, relays=INSTANT)
    assert workers_needed(plant, course_of, target=9) == 10
    assert workers_needed(plant, course_of, target=8.9) == 12
    assert workers_needed(plant, course_of, target=0) == 100
    with pytest.raises(ValueError, match="Not even 64 workers"):
        workers_needed(plant, course_of, target=0, most=64)


def test_an_autoscaler_doubles_until_the_age_falls_and_rests_before_it_goes_back():
    """At most twice as many at a time, never more than the most, and in the end as before."""
    scaler = Scaler(target=30, most=12)
    plant = Plant(workers=2, scaler=scaler)
    calls = with_burst(arrivals(1, 3_600, Random(3)), 60, 2_000)
    course = Simulation(plant, calls, services.constant(1)).run(sample=5)
    steps = [
        (before, after)
        for before, after in zip(course.workers, course.workers[1:], strict=False)
        if before != after
    ]
    assert steps[:3] == [(2, 4), (4, 8), (8, 12)]
    assert max(course.workers) == 12
    assert course.workers[-1] == 2
    grown, shrunk = course.workers.index(12), len(course.workers) - course.workers[::-1].index(12)
    assert course.moments[shrunk - 1] - course.moments[grown] >= scaler.rest
    alone = Simulation(Plant(workers=2), [0.0] * 2_000, services.constant(1)).run()
    assert course.oldest < alone.oldest / 2


def test_runs_are_as_long_as_a_histogram_has_them():
    """A page of metrics, as Prometheus' own client writes it: same mean, same buckets."""
    registry = CollectorRegistry()
    runs = Histogram("tasks_app_run_seconds", "", ["task"], buckets=(0.1, 1, 10), registry=registry)
    for seconds in (0.05, 0.06, 0.5, 2, 30):
        runs.labels(task="shop.charge").observe(seconds)
    runs.labels(task="shop.other").observe(7)
    service = services.of_metrics(generate_latest(registry).decode(), "shop.charge")
    dice = Random(1)
    found = [service(dice) for _ in range(50_000)]
    assert fmean(found) == pytest.approx(32.61 / 5, rel=0.03)
    stretch = (32.61 / 5) / ((0.05 * 2 + 0.55 + 5.5 + 15) / 5)
    assert fmean(time <= 0.1 * stretch for time in found) == pytest.approx(2 / 5, rel=0.03)
    with pytest.raises(ValueError, match=r"no run of 'shop.nothing'"):
        services.of_metrics(generate_latest(registry).decode(), "shop.nothing")


def test_the_same_dice_make_the_same_course():
    """A figure that a page tells can be had again."""
    courses = [
        Simulation(Plant(workers=3), arrivals(2, 300, Random(1)), services.exponential(1)).run()
        for _ in range(2)
    ]
    assert courses[0] == courses[1]
