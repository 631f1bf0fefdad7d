"""What the soak's tasks do: each meets faults at another moment, and leaves countable effects.

The first argument of each is its key: effects and trails are found by it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from tasks_app import Retry, Snooze, current
from tasks_app.runs import running
from tests import trail
from tests.testapp.models import Effect


class Unlucky(Exception):
    """What a flaky helper raises."""


def take_effect(key: str) -> str:
    """Write one row that names its run, and return the key."""
    run = running()
    fence = run.lease.fence if run else None
    Effect.objects.create(key=key, note=f"{current.outcome_id}#{fence}")
    return key


def take_effect_slowly(key: str, seconds: float) -> None:
    """Outlast the lease, then write one row."""
    time.sleep(seconds)
    take_effect(key)


def call_provider(key: str) -> None:
    """Do something that no rollback undoes: write a line to a file, down to the disk."""
    line = {"outcome": str(current.outcome_id), "provider_key": current.idempotency_key}
    append(trail.path(key, "trail"), line)


def fail_twice(key: str) -> None:
    """Write a row in each attempt, and fail in the first two."""
    take_effect(key)
    if current.attempt < 3:
        raise Unlucky(key)


def ask_again(key: str) -> None:
    """Write a row in each attempt, and ask for another after the first."""
    take_effect(key)
    if current.attempt < 2:
        raise Retry(after=0.5)


def come_back(key: str) -> None:
    """Write a row at each visit, and snooze at the first two."""
    take_effect(key)
    append(trail.path(key, "trail"), {"attempt": current.attempt})
    if len(trail.left(key)) < 3:
        raise Snooze(after=0.5)


def die_once(key: str) -> None:
    """Write a row, and kill the own process at the first visit."""
    take_effect(key)
    try:
        trail.path(key, "died").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def die_always(key: str) -> None:
    """Write a row, and kill the own process at every visit."""
    take_effect(key)
    os.kill(os.getpid(), signal.SIGKILL)


def watch(key: str, seconds: float) -> None:
    """Run until the cancellation is seen; where none comes, write a row."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        current.raise_if_cancelled()
        time.sleep(0.1)
    take_effect(key)


def append(path: Path, line: dict[str, Any]) -> None:
    """Append a line to a file; it is on disk when this returns."""
    with path.open("a") as file:
        file.write(json.dumps({**line, "pid": os.getpid()}) + "\n")
        file.flush()
        os.fsync(file.fileno())
