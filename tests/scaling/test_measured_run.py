"""The simulation against a real worker: a burst of runs of a known length."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from statistics import fmean

import pytest

from benchmarks.simulation import services
from benchmarks.simulation.model import Course, Plant, Relays, Simulation
from tasks_app.models import Attempt, Outcome
from tests.processes import start_worker
from tests.testapp.tasks import nap
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

CALLS, SECONDS, PROCESSES = 24, 0.2, 2
PATIENCE = 120

#: How far a simulated time may be from the measured one, as a share of it.
SHARE = 0.2


@pytest.fixture
def measured(tmp_path) -> list[Attempt]:
    """The attempts of a burst, in the order of their claims."""
    with start_worker(tmp_path, concurrency=PROCESSES) as worker:
        nap.enqueue(0).get(timeout=PATIENCE)
        nap.enqueue_many([(SECONDS,)] * CALLS)
        wait_until(
            lambda: Outcome.objects.filter(state="succeeded").count() == CALLS + 1,
            PATIENCE,
            worker.tail,
        )
    return list(Attempt.objects.order_by("started_at"))[1:]


def seconds(later, earlier) -> float:
    """Return the seconds between two moments."""
    return (later - earlier).total_seconds()


def pauses(attempts: list[Attempt]) -> list[float]:
    """Return the seconds from the end of each run to the start of its process' next one."""
    by_process: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_process[attempt.worker].append(attempt)
    assert len(by_process) == PROCESSES
    return [
        seconds(after.started_at, before.finished_at)
        for runs in by_process.values()
        for before, after in pairwise(runs)
    ]


def simulated(runs: services.Service, first_look: float, overhead: float) -> Course:
    """Return the course of the burst on such a worker, by the model."""
    relays = Relays(look=first_look, row=0)
    plant = Plant(workers=1, processes=PROCESSES, relays=relays, overhead=overhead)
    return Simulation(plant, [0.0] * CALLS, runs).run()


def test_queue_ages_are_those_of_a_real_worker(measured):
    """
    The oldest age and the end of a burst, by what its parts took: look, runs, pauses.

    A busy machine makes all of them longer; they are measured, and what is checked is what the
    model makes of them. With none but the runs' own length it tells the least that there can be.
    """
    due = min(attempt.due_at for attempt in measured)
    waits = [seconds(attempt.started_at, due) for attempt in measured]
    runs = [seconds(attempt.finished_at, attempt.started_at) for attempt in measured]
    end = max(seconds(attempt.finished_at, due) for attempt in measured)
    course = simulated(services.recorded(runs), waits[0], fmean(pauses(measured)))
    assert course.oldest == pytest.approx(max(waits), rel=SHARE)
    assert course.end == pytest.approx(end, rel=SHARE)
    least = simulated(services.constant(SECONDS), 0, 0)
    assert least.oldest == pytest.approx((CALLS / PROCESSES - 1) * SECONDS)
    assert least.oldest <= max(waits)
