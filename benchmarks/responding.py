"""
Responding: from a call's commit to its visible result, one call at a time, with idle workers.

The result is visible when its caller sees it in the database, at which it looks every half
millisecond. Plain Celery keeps no result: the stamp that its task leaves stands for it.
"""

import statistics
from collections.abc import Sequence

from benchmarks.course import Course, Reading
from benchmarks.figures import Sheet
from benchmarks.lineup import LATENCY, Contestant

FROM_COMMIT = "latency from commit, {}"
FROM_CALL = "latency from the call, {}"

PERCENTS = (50, 95, 99)


def run(course: Course, sheet: Sheet, rounds: int) -> None:
    """Let all contestants answer calls."""
    course.run(sheet, rounds, LATENCY, respond)


def respond(course: Course, contestant: Contestant) -> Sequence[Reading]:
    """Make calls one after the other; tell percentiles."""
    arena = course.arena
    arena.begin(contestant)
    with arena.workers(contestant):
        (latencies,) = arena.turn(contestant, f"latencies:{course.sizes.calls}")
    from_call, from_commit = zip(*latencies, strict=True)
    return [
        Reading(form.format(f"p{percent}"), percentile(values, percent), "ms", "lower")
        for form, values in ((FROM_COMMIT, from_commit), (FROM_CALL, from_call))
        for percent in PERCENTS
    ]


def percentile(values: Sequence[float], percent: int) -> float:
    """Return what so many of a hundred values do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
