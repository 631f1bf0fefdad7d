"""
The id that django-structlog gives a request: `request_id` among structlog's contextvars.

Whatever else is bound there is left alone.
"""

from typing import Any

from structlog.contextvars import bind_contextvars, get_contextvars, unbind_contextvars

from tasks_app.context import ForeignID

NAME = "request_id"


def _read() -> Any:
    return get_contextvars().get(NAME)


def _write(request_id: str | None) -> None:
    if request_id is None:
        unbind_contextvars(NAME)
    else:
        bind_contextvars(**{NAME: request_id})


FOREIGN_ID = ForeignID(_read, _write)
