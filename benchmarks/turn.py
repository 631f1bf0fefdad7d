"""
A turn of one contestant, in a process of its own: `python -m benchmarks.turn MODULE ACT:COUNT …`.

The last line of the output is a JSON list with what each act came to. `work` alone makes the
process a worker.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

#: Calls before the clock is read: they open connections and warm caches.
WARM_UP = 10

#: Seconds between two looks at a call's result.
LOOK = 0.0005

#: Shortest and longest time in seconds that a worker rests between two calls.
REST = (0.002, 0.01)

#: Seconds from commit to a result that is there before the call has returned, as it may be where
#: the call publishes and does not commit. Ratios need something to divide by.
LEAST = 0.00001

#: Seconds after which a call without result is a failure.
PATIENCE = 60

Act = Callable[[ModuleType, int], Any]


def prepare(module: ModuleType, count: int) -> None:
    """Make the contestant's tables."""
    getattr(module, "prepare", lambda: None)()


def fill(module: ModuleType, count: int) -> None:
    """Enqueue no-op calls."""
    module.fill(count)


def fill_writing(module: ModuleType, count: int) -> None:
    """Enqueue calls that write a row."""
    module.fill_writing(count)


def single(module: ModuleType, count: int) -> float:
    """Return the calls per second that are enqueued one by one."""
    return _speed(module.one_by_one, count)


def in_transactions(module: ModuleType, count: int) -> float:
    """Return the transactions per second that write a row and enqueue a call."""
    return _speed(module.in_transactions, count)


def bulk(module: ModuleType, count: int) -> float:
    """Return the calls per second that are enqueued at once, or in a loop for want of that."""
    return _speed(module.bulk, count)


def latencies(module: ModuleType, count: int) -> list[list[float]]:
    """Return the milliseconds of each call from its beginning, and from its commit, to its end."""
    for _ in range(WARM_UP):
        _latency(module)
    return [_latency(module) for _ in range(count)]


ACTS: dict[str, Act] = {
    "prepare": prepare,
    "fill": fill,
    "fill_writing": fill_writing,
    "single": single,
    "in_transactions": in_transactions,
    "bulk": bulk,
    "latencies": latencies,
}


def _speed(enqueue: Callable[[range], None], count: int) -> float:
    enqueue(range(WARM_UP))
    began = time.perf_counter()
    enqueue(range(count))
    return count / (time.perf_counter() - began)


def _latency(module: ModuleType) -> list[float]:
    time.sleep(random.uniform(*REST))
    began = time.monotonic()
    identity = module.call()
    committed = time.monotonic()
    while (seen := module.seen(identity)) is None:
        if time.monotonic() > committed + PATIENCE:
            raise TimeoutError(f"no result of {identity} after {PATIENCE} s")
        time.sleep(LOOK)
    return [1_000 * max(seen - began, LEAST), 1_000 * max(seen - committed, LEAST)]


def main() -> None:
    """Do what the command line names."""
    name, *acts = sys.argv[1:]
    module = import_module(f"benchmarks.{name}")
    if acts == ["work"]:
        module.work()
        return
    told = []
    for each in acts:
        act, _, count = each.partition(":")
        told.append(ACTS[act](module, int(count or 0)))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
