"""What one request causes: a chain with a retry, whose end fans out in three."""

from __future__ import annotations

import logging
import os
import signal

from tasks_app import RetryPolicy, current, task
from tests import trail

logger = logging.getLogger(__name__)

SOON = RetryPolicy(max_attempts=2, initial=0.1)

#: What the parts of the work do: end well, take their worker along, fail for good.
PARTS = ("well", "kill", "fail")


@task(name="traced.prepare")
def prepare(key: str) -> None:
    """Say a word, as helpers do."""
    logger.info("preparing")


@task(name="traced.fetch", retry=SOON)
def fetch(key: str) -> None:
    """Fail once."""
    logger.info("fetching")
    if current.attempt == 1:
        raise ConnectionError("not yet")


@task(name="traced.spread")
def spread(key: str) -> None:
    """Enqueue the parts."""
    for mood in PARTS:
        part.enqueue(key, mood)


@task(name="traced.part")
def part(key: str, mood: str) -> None:
    """Do a part of the work, each in its mood the first time that it is called at all."""
    is_first = not any(line["mood"] == mood for line in trail.left(key))
    trail.leave(key, mood=mood)
    logger.info("working")
    if is_first and mood == "kill":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    if is_first and mood == "fail":
        raise LookupError("a part is missing")
