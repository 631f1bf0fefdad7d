"""
Processors for structlog: put them before the renderer.

    structlog.configure(processors=[add_context, keep_line, mask_secrets, JSONRenderer()])

Lines that structlog hands to `logging` are kept with their attempt anyway: `keep_line` is for
projects whose loggers print.
"""

from collections.abc import MutableMapping
from typing import Any

from tasks_app.logs.fields import UNKNOWN, current_fields, current_work
from tasks_app.logs.kept import keep

EventDict = MutableMapping[str, Any]


def add_context(logger: Any, name: str, event_dict: EventDict) -> EventDict:
    """Add what is known of `request_id`, `outcome_id`, `task`, `attempt` and `queue`."""
    for field, value in current_fields().items():
        if value != UNKNOWN:
            event_dict.setdefault(field, value)
    return event_dict


def mask_secrets(logger: Any, name: str, event_dict: EventDict) -> EventDict:
    """Mask the running call's secrets in every value."""
    work = current_work()
    masked: EventDict = event_dict if work is None else work.mask(event_dict)
    return masked


def keep_line(logger: Any, name: str, event_dict: EventDict) -> EventDict:
    """Keep the line with the attempt that is running."""
    keep(name.upper(), str(event_dict.get("logger", "structlog")), str(event_dict.get("event", "")))
    return event_dict
