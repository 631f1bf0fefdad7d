"""
What Celery's programs are told about logging, and what their processes do for it.

Where `LOGGING` has a place for Celery's lines, nothing but `LOGGING` decides: Celery's own set-up
does not happen, and prints become lines as they always do there. Elsewhere Celery logs to its
console, and takes no handler away.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any

from celery import current_app, signals
from celery.apps import worker as program
from celery.worker.control import control_command
from django.conf import settings
from django.core.signals import request_started

from tasks_app.logs import levels, queues
from tasks_app.logs.config import JSON_FORMATTER

logger = logging.getLogger("tasks_app.logs")

_say = program.safe_say  # type: ignore[attr-defined]  # left out of its stub

#: Name of the remote control command.
COMMAND = "tasks_loglevel"


def connect() -> None:
    """Connect to Celery's programs, and to the web's; called once, when the app is ready."""
    if is_decided():
        signals.setup_logging.connect(_leave_alone, dispatch_uid="tasks_app.logs")
        signals.celeryd_init.connect(_be_quiet, dispatch_uid="tasks_app.logs")
    signals.worker_process_shutdown.connect(_flush, dispatch_uid="tasks_app.logs")
    for started in (signals.worker_ready, signals.beat_init, request_started):
        started.connect(levels.watch, dispatch_uid="tasks_app.logs.levels")


def is_decided() -> bool:
    """Tell whether the project's `LOGGING` has a place for Celery's lines."""
    is_given = bool(settings.LOGGING) or settings.LOGGING_CONFIG is None
    return is_given and logging.getLogger("celery").hasHandlers()


def _leave_alone(logfile: Any = None, **kwargs: Any) -> None:
    """Take the place of Celery's set-up, of which only the prints are left."""
    if len(signals.setup_logging.receivers) > 1:
        # The project sets logging up by a receiver of its own.
        return
    conf: Any = current_app.conf
    if conf.worker_redirect_stdouts:
        current_app.log.redirect_stdouts(conf.worker_redirect_stdouts_level)
    if logfile:
        logger.warning("--logfile %s is left alone: LOGGING decides", logfile)


def _be_quiet(instance: Any, **kwargs: Any) -> None:
    """Where everything is JSON, leave out the banner, and put the word at the end elsewhere."""
    formatters: Mapping[str, Any] = settings.LOGGING.get("formatters", {})
    if any(each.get("()") == JSON_FORMATTER for each in formatters.values()):
        instance.quiet = True
        program.safe_say = _say_beside  # type: ignore[attr-defined]


def _say_beside(text: str, stream: Any = None) -> None:
    _say(text, sys.__stderr__)


def _flush(**kwargs: Any) -> None:
    queues.flush()


@control_command(
    name=COMMAND, args=[("logger", str), ("level", str)], signature="<logger> <LEVEL> [until]"
)
def change_level(state: Any, logger: str, level: str, until: float | None = None) -> Any:
    """Change a logger's level on this worker's host."""
    try:
        levels.change(logger, level, until)
    except OSError as error:
        return {"error": f"{error}"}
    return {"ok": f"{logger} is at {level}"}
