"""
One JSON object per line, made by python-json-logger.

A field of which nothing is known is left out. Everything but printable ASCII is escaped, so a line
is a line wherever it is shown. The running call's secrets are masked in every value.
"""

from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter as PlainJsonFormatter

from tasks_app.logs.fields import FIELDS, UNKNOWN, current_work
from tasks_app.printable import plain_json

#: Fields in this order, by the names that `logging` has for them.
ORDER = ("levelname", "name", "message", *FIELDS, "process", "threadName")

NAMES = {"levelname": "level", "name": "logger", "threadName": "thread"}

#: What Celery says of a task beside the line, which says it too.
LEFT_OUT = ("data", "color_message")


class JsonFormatter(PlainJsonFormatter):
    """Lines for machines; needs `ContextFilter` before it."""

    def __init__(self, **options: Any) -> None:
        given = {"rename_fields": NAMES, "timestamp": True, **options}
        super().__init__(ORDER, reserved_attrs=[*RESERVED_ATTRS, *LEFT_OUT], **given)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        known = {
            name: value
            for name, value in log_data.items()
            if name not in FIELDS or value not in {None, UNKNOWN}
        }
        work = current_work()
        if work is None:
            return known
        return {
            name: value if name in FIELDS else work.mask(value) for name, value in known.items()
        }

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        return plain_json(super().jsonify_log_record(log_data))
