"""
How long calls take from their commit to their visible result: `python -m benchmarks.answers`.

One call at a time, looked at again and again from another process than the one that runs it.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TypeVar

Call = TypeVar("Call")

#: Seconds between two looks.
GLANCE = 0.0005

#: Seconds after which a call that has no result is a failure.
PATIENCE = 60

#: Calls before the clock is read: they open connections and warm caches.
WARM_UP = 3


def milliseconds(
    call: Callable[[], Call], has_result: Callable[[Call], bool], count: int
) -> Sequence[float]:
    """
    Return what each of so many calls took.

    Raises:
        TimeoutError: one had no result in time.
    """
    times = [_await(call(), has_result) for _ in range(WARM_UP + count)]
    return times[WARM_UP:]


def _await(made: Call, has_result: Callable[[Call], bool]) -> float:
    began = time.perf_counter()
    while not has_result(made):
        if time.perf_counter() - began > PATIENCE:
            raise TimeoutError(f"call {made} had no result after {PATIENCE} s")
        time.sleep(GLANCE)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    contestant = import_module(f"benchmarks.{sys.argv[1]}")
    took = milliseconds(contestant.call, contestant.has_result, int(sys.argv[2]))
    print(statistics.median(took))
