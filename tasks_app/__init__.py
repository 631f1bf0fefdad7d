"""
Durable, exactly-once background tasks for Django, built on Celery.

Public names only, resolved when first used: importing the package loads no model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks_app import current
    from tasks_app.context import own_request_id, request_id
    from tasks_app.declare import task
    from tasks_app.exceptions import Discard, Retry, Snooze
    from tasks_app.periodic import every, periodic
    from tasks_app.retry import RetryPolicy
    from tasks_app.status import accepted, status_token, status_url

__version__ = "0.1.0"

__all__ = [
    "Discard",
    "Retry",
    "RetryPolicy",
    "Snooze",
    "accepted",
    "current",
    "every",
    "own_request_id",
    "periodic",
    "request_id",
    "status_token",
    "status_url",
    "task",
]

_HOMES = {
    "Discard": "exceptions",
    "Retry": "exceptions",
    "RetryPolicy": "retry",
    "Snooze": "exceptions",
    "accepted": "status",
    "every": "periodic",
    "own_request_id": "context",
    "periodic": "periodic",
    "request_id": "context",
    "status_token": "status",
    "status_url": "status",
    "task": "declare",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
