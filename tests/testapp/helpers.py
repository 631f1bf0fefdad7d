"""Plain functions that the test tasks wrap: each does one thing that tasks do to a worker."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import signal
import threading
import time
from typing import Any, NoReturn

import structlog
from asgi_correlation_id import correlation_id
from django.db import DatabaseError, connections
from django_guid import get_guid

import tasks_app
from tasks_app import Discard, Retry, Snooze, current
from tests import trail
from tests.testapp.models import Effect


class Unprintable(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Exiting(Exception):
    """An exception whose text would end the process."""

    def __str__(self) -> NoReturn:
        raise SystemExit(1)


class Unpicklable(Exception):
    """An exception that cannot be sent to another process."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("no pickle")


def add(a: int, b: int) -> int:
    """Return a sum: a result and no effect."""
    return a + b


def nap(seconds: float) -> None:
    """Take so long, and nothing else."""
    time.sleep(seconds)


async def add_later(a: int, b: int) -> int:
    """Return a sum from a coroutine."""
    await asyncio.sleep(0.01)
    return a + b


def note_ids(*before: Any, key: str, until: int = 1) -> str | None:
    """Note the request id, ours and what other packages have, and fail before some attempt."""
    trail.leave(
        key,
        attempt=current.attempt,
        ours=tasks_app.request_id(),
        guid=get_guid(),
        structlog=structlog.contextvars.get_contextvars().get("request_id"),
        asgi=correlation_id.get(),
    )
    if current.attempt is not None and current.attempt < until:
        raise ValueError("not yet")
    return tasks_app.request_id()


async def fail_later(key: str) -> None:
    """Fail in a coroutine."""
    await asyncio.sleep(0.01)
    raise LookupError(f"{key} fails later")


def total(numbers: list[int]) -> int:
    """Return the sum of a list, such as the results of a group."""
    return sum(numbers)


def call_outside(key: str, note: str = "") -> None:
    """Tell the trail, as one would tell a provider: no rollback takes that back."""
    trail.leave(
        key,
        note=note,
        attempt=current.attempt,
        outcome_id=current.outcome_id and str(current.outcome_id),
        provider_key=current.idempotency_key,
    )


def record(key: str, note: str = "") -> None:
    """Take effect once, and leave a trail of it."""
    call_outside(key, note)
    Effect.objects.create(key=key, note=note)


def record_late(key: str) -> None:
    """Stay in the body until the gate opens, then take effect."""
    # The gate comes first: on SQLite a helper that has written keeps every other writer out.
    trail.leave(key, attempt=current.attempt)
    trail.wait_at_gate(key)
    Effect.objects.create(key=key)


def succeed_at(key: str, attempt: int) -> int:
    """Take effect in every attempt and fail in all before the given one."""
    record(key, f"attempt {current.attempt}")
    if current.attempt != attempt:
        raise ValueError(f"attempt {current.attempt} is not {attempt}")
    return attempt


def need_gate(key: str) -> None:
    """Take effect, and fail as long as the gate is closed."""
    record(key)
    if not trail.is_open(key):
        raise ValueError("the gate is closed")


def ask_for_retry(key: str) -> None:
    """Take effect, and ask for another attempt in the first one."""
    record(key)
    if current.attempt == 1:
        raise Retry(after=0.2)


def ask_for_snooze(key: str) -> None:
    """Take effect, and ask to come back at the first two visits."""
    record(key)
    if len(trail.left(key)) < 3:
        raise Snooze(after=0.2)


def discard(key: str) -> None:
    """Take effect and give up."""
    record(key)
    raise Discard("nobody wants it")


def watch_for_cancel(key: str) -> None:
    """Run until the cancellation is seen."""
    trail.leave(key, attempt=current.attempt)
    deadline = time.monotonic() + trail.GATE_TIMEOUT
    while time.monotonic() < deadline:
        current.raise_if_cancelled()
        time.sleep(0.05)


def fail_with(key: str, kind: str) -> None:
    """Take effect and raise what a careless helper may raise."""
    record(key)
    errors: dict[str, BaseException] = {
        "system_exit": SystemExit(3),
        "keyboard_interrupt": KeyboardInterrupt(),
        "memory": MemoryError(),
        "unprintable": Unprintable(),
        "unpicklable": Unpicklable("cannot", "travel"),
        "nul": ValueError("a NUL \0 and a lone surrogate \ud800"),
    }
    raise errors[kind]


def give_back(kind: str) -> Any:
    """Return what does not fit a result column."""
    results: dict[str, Any] = {
        "object": object(),
        "large": "x" * 1_000_000,
        "nan": float("nan"),
        "set": {1, 2},
    }
    return results[kind]


def know_connection() -> bool:
    """Return whether the database connection is the one that this process' last call had."""
    connection = connections["default"]
    connection.ensure_connection()
    known = getattr(connection, "known", None)
    connection.known = connection.connection
    return connection.connection is known


def lose_connection(key: str) -> None:
    """Take effect; at the first visit, have the database end the connection, and go on."""
    record(key)
    if len(trail.left(key)) > 1:
        return
    connection = connections["default"]
    ending = {
        "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
        "mysql": "KILL CONNECTION_ID()",
    }
    with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute(ending[connection.vendor])
    record(key, "on a lost connection")


class Declined(Exception):
    """An exception that keeps what it was told beside what it says."""

    def __str__(self) -> str:
        return "declined"


def charge(order_id: int, card_token: str, mood: str, details: dict[str, Any] | None = None) -> Any:
    """Let a secret go wherever a careless helper lets one go."""
    body = {"card": card_token, "note": f"pay with {card_token}"}
    current.progress(1, 2, f"order {order_id}: charging {card_token}")
    if mood == "retry" and current.attempt == 1:
        raise ValueError(f"order {order_id} of {card_token!r} with {details}")
    if mood == "fail":
        raise Declined(card_token) from KeyError(f"order {order_id} of {card_token}")
    if mood == "decline":
        raise ValueError(f"order {order_id} is declined, {len(body)} fields")
    if mood == "hang":
        time.sleep(trail.GATE_TIMEOUT)
    if mood == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"order": order_id, "card_token": card_token, "receipt": f"for {card_token}"}


def die(key: str, times: int) -> None:
    """Take effect and kill the own process, as often as told; then stay alive."""
    record(key)
    if len(trail.left(key)) <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def speak(key: str, mood: str, password: str = "") -> str:
    """Write lines in each way that helpers write lines, then end as told."""
    logging.getLogger("tests.helpers").info("speaking of %s with %s", key, password)
    logging.getLogger("tests.helpers").debug("muttering of %s", key)
    print(f"printing {key}")  # noqa: T201 - some helpers do
    context = contextvars.copy_context()
    other = threading.Thread(
        target=context.run, args=(logging.getLogger("tests.thread").info, "aside of %s", key)
    )
    other.start()
    other.join()
    if mood == "fail" or (mood == "retry" and current.attempt == 1):
        raise ValueError(f"cannot speak of {key}")
    return key
