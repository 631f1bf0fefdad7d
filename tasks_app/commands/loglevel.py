"""
`tasks loglevel`: changes a logger's level in running processes.

This host's processes read it from a file; workers on other hosts are told by signed remote
control. What is changed for a time goes back by itself, on every host.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from kombu.exceptions import OperationalError

from tasks_app.celery import app
from tasks_app.logs import levels
from tasks_app.logs.programs import COMMAND

HELP = "Change a logger's level in running processes."

#: Seconds that workers have to answer.
LISTEN = 1.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the logger, its level and for how long."""
    parser.add_argument("logger", help="such as tasks_app, or root")
    parser.add_argument(
        "level",
        metavar="LEVEL",
        type=str.upper,
        choices=(*levels.LEVELS, levels.RESET),
        help=f"{', '.join(levels.LEVELS)}, or {levels.RESET} for what the settings say",
    )
    parser.add_argument(
        "--for", dest="minutes", type=float, metavar="MINUTES", help="then put it back"
    )


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Change it here, then wherever a worker answers."""
    name, level, minutes = options["logger"], options["level"], options["minutes"]
    until = None if minutes is None else time.time() + 60 * minutes
    try:
        levels.change(name, level, until)
    except OSError as error:
        raise CommandError(f"{levels.path()} cannot be written: {error}") from error
    command.stdout.write(f"{name} is at {level} on this host, within a second.")
    refused = 0
    for worker, answer in sorted(_tell_workers(name, level, until).items()):
        refused += "ok" not in answer
        command.stdout.write(f"{worker}: {answer.get('ok') or answer.get('error')}")
    if refused:
        raise CommandError(f"{refused} workers refused.")


def _tell_workers(name: str, level: str, until: float | None) -> dict[str, Any]:
    arguments = {"logger": name, "level": level, "until": until}
    try:
        answers: list[dict[str, Any]] = app.control.broadcast(  # type: ignore[assignment]
            COMMAND, arguments=arguments, reply=True, timeout=LISTEN
        )
    except (OperationalError, OSError) as error:
        raise CommandError(f"Workers on other hosts were not told: {error}") from error
    return {worker: answer for each in answers or [] for worker, answer in each.items()}
