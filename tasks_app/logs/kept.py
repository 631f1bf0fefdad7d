"""
The last lines of each run, kept for its attempt: bounded, without secrets, whoever wrote them.

They are taken where lines are made rather than by a handler: many projects have loggers that do
not propagate, and a handler on the root logger would change what Celery and `logging` do there.
A process that is killed takes its lines along.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from traceback import format_exception_only
from typing import Any

from tasks_app import runs
from tasks_app.conf import conf
from tasks_app.failures import storable
from tasks_app.logs import fields, levels
from tasks_app.logs.fields import Work, current_work
from tasks_app.printable import plain
from tasks_app.redaction import scrub_leaves
from tasks_app.runs import Run

#: Longest kept text of a line, in characters, and of all lines of a run, in bytes.
LONGEST_LINE, MOST_BYTES = 2_000, 16_384

#: Stands where earlier lines did not fit.
CUT = "…"


def connect() -> None:
    """Begin to keep lines; called once, when the app is ready."""
    logging.setLogRecordFactory(keeping(logging.getLogRecordFactory()))
    runs.surroundings.append(know_run)


@contextmanager
def know_run(run: Run) -> Iterator[None]:
    """Let the lines of a run know it, and keep the last of them."""
    levels.watch()
    outcome = run.outcome
    work = Work(
        {
            "request_id": outcome.request_id,
            "outcome_id": str(outcome.id),
            "task": outcome.task_name,
            "attempt": run.lease.number,
            "queue": outcome.queue,
        },
        mask=lambda value: scrub_leaves(value, run.secrets) if run.secrets else value,
        has_secrets=lambda: bool(run.secrets),
    )
    most = conf.KEEP_LOG_LINES
    if most:
        work.lines = deque(maxlen=most)
        run.read_log = lambda: kept_text(work)
    token = fields.begin(work)
    try:
        yield
    finally:
        fields.end(token)


def keep(level: str, logger: str, text: str) -> None:
    """Keep a line with the run that the current code belongs to, if any."""
    work = current_work()
    if work is None or work.lines is None:
        return
    if len(text) > LONGEST_LINE:
        # Before it is cut: half a secret would not be found.
        text = work.mask(text)[:LONGEST_LINE] + CUT
    work.lines.append((time.time(), level, logger, text))


def kept_text(work: Work) -> str:
    """Return the last lines of a run as a row may have them."""
    if not work.lines:
        return ""
    try:
        # Before they are indented: a secret may have lines itself.
        lines = [(*line[:3], work.mask(line[3])) for line in work.lines.copy()]
        return _last_bytes(storable(plain("\n".join(_written(*line) for line in lines))))
    except Exception as error:  # noqa: BLE001 - no line may cost a run its end
        return f"(the log cannot be kept: {type(error).__name__})"


def keeping(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """Return a factory of lines that keeps those of runs."""

    def make_and_keep(name: Any, level: Any, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(name, level, *args, **kwargs)
        # Records that come from elsewhere are made without a level.
        if current_work() is not None and isinstance(level, int) and level >= logging.INFO:
            keep(record.levelname, record.name, _text(record))
        return record

    return make_and_keep


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "".join(format_exception_only(record.exc_info[1])).strip()
    except Exception:  # noqa: BLE001 - the handlers tell of a line that cannot be written
        return str(record.msg)
    return text


def _written(moment: float, level: str, logger: str, text: str) -> str:
    when = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return f"{when} {level} {logger}: {text}".replace("\n", "\n    ")


def _last_bytes(text: str) -> str:
    data = text.encode()
    if len(data) <= MOST_BYTES:
        return text
    _, _, whole_lines = data[-MOST_BYTES + len(CUT.encode()) + 1 :].partition(b"\n")
    return f"{CUT}\n{whole_lines.decode()}"
