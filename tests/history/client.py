"""The clients' own log: what they asked for, when, and what they were told.

A call is two lines: `invoke` before it, then `ok`, `fail` (refused: it did not happen) or `info`
(nobody knows). Each is on disk before the next statement runs, so a killed process leaves the
`invoke` of the call that it was in, and such a call counts as `info`.

Times are of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.db import DataError, IntegrityError, ProgrammingError

from tasks_app.exceptions import TasksAppError

#: What is raised before anything is written, or by the statement that was refused.
REFUSALS = (TasksAppError, TypeError, ValueError, DataError, IntegrityError, ProgrammingError)

OK, FAIL, INFO = "ok", "fail", "info"

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Call:
    """
    One call of one client, as its log tells it.

    Attributes:
        op: What was asked for: `enqueue`, `read`, or any other word.
        began: Time of its beginning.
        ended: Time of its end; infinite where that was not seen.
        end: `ok`, `fail` or `info`.
        process: Process and thread that made it.
        key: The idempotency key, if one was given.
        arguments: What else was given.
        outcome_id: The outcome that it returned or asked about.
        told: What else was returned, such as `created` or `state`.
    """

    op: str
    began: float
    ended: float = NEVER
    end: str = INFO
    process: str = ""
    key: str | None = None
    arguments: Any = None
    outcome_id: UUID | None = None
    told: dict[str, Any] = field(default_factory=dict)


class Invoked:
    """A call that is under way."""

    def __init__(self, log: ClientLog, call_id: str) -> None:
        self.log = log
        self.call_id = call_id
        self.is_ended = False

    def ok(self, outcome_id: UUID | None = None, **told: Any) -> None:
        """Note that the call has returned, and what."""
        self.end(OK, outcome_id=outcome_id and str(outcome_id), told=told)

    def end(self, line: str, **facts: Any) -> None:
        """Note the call's end."""
        self.is_ended = True
        self.log.write(line, self.call_id, **facts)


class ClientLog:
    """
    The log of one process, in one file; its threads may share it.

    A client that works in a transaction invokes the whole of it, its COMMIT included: only then
    is what it was told true.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        # A line that a killed predecessor began must not spoil the first one of this process.
        self._append("\n")

    @contextmanager
    def invoked(
        self,
        op: str,
        *,
        key: str | None = None,
        outcome_id: UUID | None = None,
        arguments: Any = None,
    ) -> Iterator[Invoked]:
        """
        Log a call around the block that makes it.

        A block that raises a refusal has failed; any other exception leaves open what happened.
        One that ends without a word to `ok` was ok.
        """
        call = Invoked(self, uuid4().hex)
        asked = outcome_id and str(outcome_id)
        self.write("invoke", call.call_id, op=op, key=key, arguments=arguments, outcome_id=asked)
        try:
            yield call
        except REFUSALS as error:
            call.end(FAIL, told={"error": repr(error)})
            raise
        except BaseException as error:
            call.end(INFO, told={"error": repr(error)})
            raise
        if not call.is_ended:
            call.ok()

    def write(self, line: str, call_id: str, **facts: Any) -> None:
        """Append one line; it is on disk when this returns."""
        who = f"{os.getpid()}/{threading.get_native_id()}"
        fact = {"line": line, "call": call_id, "time": time.monotonic(), "process": who, **facts}
        self._append(json.dumps(fact, default=str) + "\n")

    def _append(self, text: str) -> None:
        with self._lock, self.path.open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def read(paths: Iterable[Path]) -> list[Call]:
    """Return all calls of some logs, the earliest first."""
    lines = [line for path in paths for line in _lines(path)]
    ends = {line["call"]: line for line in lines if line["line"] != "invoke"}
    calls = [_call(line, ends.get(line["call"])) for line in lines if line["line"] == "invoke"]
    return sorted(calls, key=lambda call: call.began)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            # Cut off by the death of its writer, before the call or after it.
            continue
        if isinstance(line, dict) and "call" in line:
            yield line


def _call(invoke: dict[str, Any], end: dict[str, Any] | None) -> Call:
    ended = end or {"line": INFO, "time": NEVER}
    outcome_id = ended.get("outcome_id") or invoke["outcome_id"]
    return Call(
        op=invoke["op"],
        began=invoke["time"],
        ended=NEVER if ended["line"] == INFO else ended["time"],
        end=ended["line"],
        process=invoke["process"],
        key=invoke["key"],
        arguments=invoke["arguments"],
        outcome_id=UUID(outcome_id) if outcome_id else None,
        told=ended.get("told", {}),
    )
