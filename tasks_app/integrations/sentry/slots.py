"""
The slot of a schedule that beat serves at the moment.

Beat's own scheduler, whichever it is, is asked for each entry in turn. What is enqueued meanwhile
belongs to that slot. The SDK's `monitor_beat_tasks` may have opened a check-in for it already: then
that one is taken over, and its headers go no further, so that nobody else closes it.
"""

import secrets
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tasks_app import signals
from tasks_app.declare import OutcomeTask
from tasks_app.models import Outcome

#: What the SDK's own monitoring puts into an entry's headers.
FOREIGN = "sentry-monitor-"

#: What to do when the row of a slot has been written; integrations add theirs.
on_enqueued: list[Callable[["Slot"], None]] = []

_current: ContextVar["Slot | None"] = ContextVar("tasks_app_slot", default=None)


@dataclass(frozen=True, slots=True)
class Slot:
    """One due time of a schedule's entry."""

    name: str
    schedule: Any
    timezone: str
    check_in_id: str
    #: Somebody else has told of the slot's beginning.
    is_open: bool


def current() -> Slot | None:
    """Return the slot that this code enqueues for, or None."""
    return _current.get()


def watch(sender: Any, **kwargs: Any) -> None:
    """Know the slots of a beat that starts; the receiver of Celery's `beat_init`."""
    scheduler = sender.scheduler
    scheduler.apply_async = _within_slots(scheduler.app, scheduler.apply_async)
    # Nowhere else: who listens to it makes bulk writes slower.
    signals.enqueued.connect(_tell, dispatch_uid=__name__)


def _tell(outcome: Outcome, **kwargs: Any) -> None:
    slot = current()
    if slot is not None:
        for act in on_enqueued:
            act(slot)


def _within_slots(app: Any, send: Callable[..., Any]) -> Callable[..., Any]:
    def apply_async(entry: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(app.tasks.get(entry.task), OutcomeTask):
            return send(entry, *args, **kwargs)
        token = _current.set(_take_over(entry, app))
        try:
            return send(entry, *args, **kwargs)
        finally:
            _current.reset(token)

    return apply_async


def _take_over(entry: Any, app: Any) -> Slot:
    headers = entry.options.get("headers") or {}
    kept = {name: value for name, value in headers.items() if not name.startswith(FOREIGN)}
    # A new dict: the entry shares its own with the entries that follow it.
    entry.options = {**entry.options, "headers": kept}
    opened = headers.get(f"{FOREIGN}check-in-id")
    zone = getattr(entry.schedule, "tz", None) or app.timezone
    return Slot(
        entry.name, entry.schedule, str(zone), opened or secrets.token_hex(16), opened is not None
    )
