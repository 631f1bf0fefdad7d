"""
Logs: which line belongs to which call, what a line looks like, and where it goes.

Every line about an outcome's life is written in `tasks_app.logs.lifecycle`. The names below may be
used in a settings module: importing them loads no model. While a task runs, each line knows its
call, whoever writes it.
"""

from tasks_app.logs.config import dict_config
from tasks_app.logs.fields import ContextFilter
from tasks_app.logs.formats import SamplingFilter, TextFormatter
from tasks_app.logs.queues import ConsoleHandler, QueuedHandler

__all__ = [
    "ConsoleHandler",
    "ContextFilter",
    "QueuedHandler",
    "SamplingFilter",
    "TextFormatter",
    "dict_config",
]
