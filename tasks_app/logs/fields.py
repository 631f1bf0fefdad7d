"""
Whose line it is: the fields that every line of a run has, and the filter that adds them.

A contextvar holds the work that the current code does, so that lines of threads, coroutines and
tasks do not mix. A line that names its call itself keeps what it says. Outside a run the fields
are `-`; in a request, its id is known.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from tasks_app import context

FIELDS = ("request_id", "outcome_id", "task", "attempt", "queue")

#: Stands in a field of which nothing is known.
UNKNOWN = "-"

#: The exceptions' texts as `logging` itself writes them.
_plain_formatter = logging.Formatter()


@dataclass(slots=True)
class Work:
    """A run, as its lines need to know it."""

    fields: Mapping[str, Any]
    #: Masks the run's secrets in a text, or in all texts of a container.
    mask: Callable[[Any], Any]
    has_secrets: Callable[[], bool]
    #: The last lines, as `(time, level, logger, text)`; None where none are kept.
    lines: deque[tuple[float, str, str, str]] | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began


_work: ContextVar[Work | None] = ContextVar("tasks_app_work", default=None)
#: The fields of the run that ended here last: Celery tells of its end a moment later.
_ended: ContextVar[Mapping[str, Any] | None] = ContextVar("tasks_app_ended_work", default=None)


def current_work() -> Work | None:
    """Return the run that the current code belongs to, or None."""
    return _work.get()


def begin(work: Work) -> Any:
    """Make a run the current one; returns what `end` needs."""
    return _work.set(work)


def end(token: Any) -> None:
    """Put back what was current before a run, and remember the run for Celery's last line."""
    work = _work.get()
    _ended.set(None if work is None else work.fields)
    _work.reset(token)


def current_fields() -> dict[str, Any]:
    """Return the fields of a line that is written here, `-` where nothing is known."""
    work = _work.get()
    if work is not None:
        return dict(work.fields)
    return {**dict.fromkeys(FIELDS, UNKNOWN), "request_id": context.request_id() or UNKNOWN}


class ContextFilter(logging.Filter):
    """Adds the fields of the current work to every line, and masks its secrets; on handlers."""

    def filter(self, record: logging.LogRecord) -> bool:
        values = record.__dict__
        work = _work.get()
        if work is None:
            found: Mapping[str, Any] = {**current_fields(), **_of_celery(values.get("data"))}
        else:
            found = work.fields
            if work.has_secrets():
                _mask(record, work.mask)
        for name in FIELDS:
            values.setdefault(name, found[name])
        return True


def _of_celery(data: Any) -> Mapping[str, Any]:
    """Return what Celery's own lines say of their task."""
    if not isinstance(data, dict) or "id" not in data:
        return {}
    ended = _ended.get()
    if ended is not None and ended["outcome_id"] == data["id"]:
        return ended
    return {"outcome_id": data["id"], "task": data.get("name", UNKNOWN)}


def _mask(record: logging.LogRecord, mask: Callable[[Any], Any]) -> None:
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - its handler tells of a line that cannot be written
        return
    masked = mask(text)
    if masked != text:
        record.msg, record.args = masked, None
    if record.exc_info:
        # Another handler's formatter may have left it here.
        text = record.exc_text or _plain_formatter.formatException(record.exc_info)
        record.exc_text = mask(text)
