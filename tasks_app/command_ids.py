"""
A request id for every run of a management command, the shell included.

What one run enqueues belongs together like what one request enqueues. A command that is called by a
request or a task works for that one. Commands that serve others have no id of their own: it would
be everybody's.
"""

from functools import wraps
from typing import Any

from django.core.management.base import BaseCommand

from tasks_app import context

#: Commands whose process answers requests or messages, or runs tests: Django's and known ones.
SERVING = {"runserver", "testserver", "test", "runserver_plus", "runworker", "celery"}

_execute = BaseCommand.execute


@wraps(_execute)
def _execute_with_id(self: BaseCommand, *args: Any, **options: Any) -> Any:
    if type(self).__module__.rpartition(".")[2] in SERVING:
        return _execute(self, *args, **options)
    with context.some_request_id():
        return _execute(self, *args, **options)


def connect() -> None:
    """Wrap every command of this process: Django tells nobody else when one begins."""
    BaseCommand.execute = _execute_with_id  # type: ignore[method-assign]
