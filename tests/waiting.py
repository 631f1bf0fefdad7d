"""Waiting for a fact instead of sleeping for a guess.

Every wait in the tests goes through `wait_until`: it polls a predicate until it is true or a
deadline passes, and then says what was awaited and what was last seen. A wait therefore costs
as long as the fact needs, and a missing fact is a message rather than a hang.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks: short enough that a test never waits noticeably for nothing.
POLL = 0.05


def wait_until(predicate: Callable[[], T], timeout: float, message: str | Callable[[], str]) -> T:
    """
    Return the predicate's first true value.

    Args:
        predicate: Asked again and again; any true value ends the wait.
        timeout: Seconds until giving up.
        message: What was awaited, or a callable that says so when the wait has failed.

    Raises:
        TimeoutError: The predicate stayed false; the text holds the message and its last value.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            text = message if isinstance(message, str) else message()
            raise TimeoutError(f"waited {timeout:g} s for: {text} (last seen: {value!r})")
        time.sleep(POLL)
