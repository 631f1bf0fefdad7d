"""What helpers leave outside the database: lines in files, and gates that hold them up.

A rolled-back transaction leaves no row, so tests that ask how often a helper really ran, or what
a provider would have seen, read its trail. A gate keeps a helper inside its body until the test
opens it. Both work between processes and survive a killed one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.servers.session import files
from tests.waiting import wait_until

#: Seconds that a helper waits at most: a forgotten gate must not keep a worker for ever.
GATE_TIMEOUT = 120


def leave(key: str, **facts: Any) -> None:
    """Append one line to a trail, on disk before the next statement runs."""
    with path(key, "trail").open("a") as trail:
        trail.write(json.dumps({**facts, "pid": os.getpid()}) + "\n")


def left(key: str) -> list[dict[str, Any]]:
    """Return every line of a trail, the first one first."""
    try:
        return [json.loads(line) for line in path(key, "trail").read_text().splitlines()]
    except FileNotFoundError:
        return []


def open_gate(key: str) -> None:
    """Let everybody pass who waits at a gate, now or later."""
    path(key, "gate").touch()


def is_open(key: str) -> bool:
    """Return whether a gate has been opened."""
    return path(key, "gate").exists()


def wait_at_gate(key: str) -> None:
    """Return when the gate is open."""
    wait_until(lambda: is_open(key), GATE_TIMEOUT, f"the gate {key}")


def path(key: str, kind: str) -> Path:
    """Return the file of a key."""
    return files() / f"{key}.{kind}"
