"""
`dict_config`: a whole `LOGGING` for web and worker, in one line of a project's settings.

Text in development, JSON in production; on the console, or in a file that all processes share.
It knows nothing of Django's settings, which are just being read.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tasks_app.exceptions import ConfigurationError
from tasks_app.logs.queues import CAPACITY

JSON_FORMATTER = "tasks_app.integrations.json_logs.JsonFormatter"
CONSOLE = "tasks_app.logs.ConsoleHandler"
FILE = "concurrent_log_handler.ConcurrentRotatingFileHandler"

#: Django's own: mail to `ADMINS`, if there are any.
MAIL_ADMINS = {
    "class": "django.utils.log.AdminEmailHandler",
    "filters": ["production"],
    "level": "ERROR",
}

#: Celery's loggers that tell of a run's beginning and good end what our own line tells better.
TOLD_TWICE = ("celery.app.trace", "celery.worker.strategy")

#: Size at which a file is rotated, and how many old ones are kept.
FILE_BYTES, OLD_FILES = 50_000_000, 10


def dict_config(  # noqa: PLR0913 - options are keywords
    *,
    debug: bool,
    level: str = "INFO",
    json: bool | None = None,
    file: str | Path | None = None,
    file_bytes: int = FILE_BYTES,
    old_files: int = OLD_FILES,
    sampling: float | Mapping[str, float] = 1.0,
    capacity: int = CAPACITY,
    levels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    Return a `LOGGING`.

    Args:
        debug: The settings' `DEBUG`.
        level: The lowest level that is logged.
        json: Write JSON; by default in production, where python-json-logger is installed.
        file: Write to this file rather than to standard output; needs the extra `log-files`.
        file_bytes: Size at which the file is rotated.
        old_files: Rotated files that are kept.
        sampling: Share of runs whose lines below WARNING are written, in all or by task name.
        capacity: Lines that may wait for a slow disk; 0 writes at once, and tasks wait for it.
        levels: Levels of single loggers, by name.

    Raises:
        ConfigurationError: a package is missing that an argument asks for.
    """
    if json is None:
        json = not debug and find_spec("pythonjsonlogger") is not None
    if json:
        _need("pythonjsonlogger", "json=True", "json-logs")
    if file is not None:
        _need("concurrent_log_handler", "file", "log-files")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {
            "context": {"()": "tasks_app.logs.ContextFilter"},
            "sampling": {"()": "tasks_app.logs.SamplingFilter", "rate": sampling},
            "production": {"()": "django.utils.log.RequireDebugFalse"},
        },
        "formatters": {
            "text": {"()": "tasks_app.logs.TextFormatter"},
            **({"json": {"()": JSON_FORMATTER}} if json else {}),
        },
        "handlers": {
            "lines": {
                **_destination(file, file_bytes, old_files, capacity),
                "formatter": "json" if json else "text",
                "filters": ["context", "sampling"],
            },
            "mail_admins": MAIL_ADMINS,
        },
        "root": {"handlers": ["lines"], "level": level},
        "loggers": _loggers(levels or {}),
    }


def _loggers(levels: Mapping[str, str]) -> dict[str, Any]:
    return {
        # In place of the consoles that Django gives them.
        "django": {"handlers": ["mail_admins"], "level": "INFO"},
        "django.server": {"handlers": [], "propagate": True},
        **{name: {"level": "WARNING"} for name in TOLD_TWICE},
        **{name: {"level": level} for name, level in levels.items()},
    }


def _destination(
    file: str | Path | None, file_bytes: int, old_files: int, capacity: int
) -> dict[str, Any]:
    target: str = CONSOLE
    options: dict[str, Any] = {"stream": "stdout"}
    if file is not None:
        target = FILE
        options = {"filename": str(file), "maxBytes": file_bytes, "backupCount": old_files}
        options["encoding"] = "utf-8"
    if not capacity:
        return {"()": target, **options}
    queued = "tasks_app.logs.QueuedHandler"
    return {"()": queued, "target": target, "options": options, "capacity": capacity}


def _need(package: str, argument: str, extra: str) -> None:
    if find_spec(package) is None:
        msg = f"dict_config({argument}) needs a package: pip install 'tasks_app[{extra}]'."
        raise ConfigurationError(msg)
