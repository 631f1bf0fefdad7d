"""
How long runs take: by a rule of dice, or as a histogram of `/tasks/metrics` recorded them.

A service is called with the dice of a simulation and returns the seconds of one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from random import Random

from prometheus_client.parser import text_string_to_metric_families

Service = Callable[[Random], float]

#: The histogram of runs, as Prometheus calls it.
RUNS = "tasks_app_run_seconds"


def constant(seconds: float) -> Service:
    """Return a service that always takes the same time."""
    return lambda dice: seconds


def exponential(mean: float) -> Service:
    """Return a service whose times have an exponential distribution of this mean, in seconds."""
    return lambda dice: dice.expovariate(1 / mean)


def recorded(seconds: Iterable[float]) -> Service:
    """Return a service that takes the given times one after the other."""
    times = iter(seconds)
    return lambda dice: next(times)


def histogram(bounds: Sequence[float], counts: Sequence[float], total: float) -> Service:
    """
    Return a service whose times are spread as a histogram has them.

    Within a bucket all times are equally likely; then all are stretched alike, so that their mean
    is the recorded one.

    Args:
        bounds: Upper bound of each bucket in seconds, growing; the last one may be infinite and
            counts as twice the one before.
        counts: How many runs fell into each bucket, and no lower one.
        total: The sum of all recorded seconds.
    """
    last = bounds[-1] if bounds[-1] != float("inf") else 2 * bounds[-2]
    buckets = list(pairwise([0.0, *bounds[:-1], last]))
    weighed = zip(buckets, counts, strict=True)
    middle = sum((low + high) / 2 * count for (low, high), count in weighed) / sum(counts)
    stretch = total / sum(counts) / middle
    return lambda dice: dice.uniform(*dice.choices(buckets, counts)[0]) * stretch


def of_metrics(text: str, task: str) -> Service:
    """
    Return the service of a task as a page of metrics recorded it.

    Raises:
        ValueError: the page has no run of the task.
    """
    samples = [
        sample
        for family in text_string_to_metric_families(text)
        if family.name == RUNS
        for sample in family.samples
        if sample.labels["task"] == task
    ]
    found = {
        float(sample.labels["le"]): sample.value for sample in samples if "le" in sample.labels
    }
    if not any(found.values()):
        raise ValueError(f"The page has no run of {task!r} in {RUNS}.")
    bounds = sorted(found)
    upto = [0.0, *(found[bound] for bound in bounds)]
    total = next(sample.value for sample in samples if sample.name == f"{RUNS}_sum")
    return histogram(bounds, [after - before for before, after in pairwise(upto)], total)
