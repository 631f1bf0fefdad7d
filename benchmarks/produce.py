"""
Enqueue keys at a steady pace: `python -m benchmarks.produce CONTESTANT COUNT PER_SECOND`.

A call that raises is made again with the same key, as a careful caller would, until it returns.
"""

import sys
import time
from collections.abc import Callable
from importlib import import_module


def produce(enqueue: Callable[[str], None], count: int, per_second: float) -> None:
    """Enqueue `count` keys."""
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        insist(enqueue, f"key-{number}")


def insist(enqueue: Callable[[str], None], key: str) -> None:
    """Make one call until it returns; whatever it raises, the caller cannot know what happened."""
    while True:
        try:
            enqueue(key)
        except Exception as error:  # noqa: BLE001 - each way to enqueue has its own ways to fail
            print(f"{key}: {error!r}", file=sys.stderr, flush=True)
            time.sleep(0.2)
        else:
            return


if __name__ == "__main__":
    name, count, per_second = sys.argv[1:]
    produce(import_module(f"benchmarks.{name}").enqueue, int(count), float(per_second))
