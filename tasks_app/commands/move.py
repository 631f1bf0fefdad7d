"""`tasks move`: pending outcomes get another queue or priority and are announced anew."""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tasks_app.commands import bulk
from tasks_app.commands.bulk import Act, Refused
from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Outcome
from tasks_app.options import PRIORITIES, read_queue
from tasks_app.states import State

HELP = "Give pending outcomes another queue or priority."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ids, filters, `--to-queue` and `--to-priority`."""
    bulk.add_arguments(parser)
    parser.add_argument(
        "--to-queue", metavar="NAME", help="the queue that they wait in from now on"
    )
    parser.add_argument(
        "--to-priority", type=int, choices=PRIORITIES, metavar="N", help="0 to 9, higher first"
    )


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Move every outcome that the options name."""
    queue, priority = options["to_queue"], options["to_priority"]
    if queue is None and priority is None:
        raise CommandError("Say where to: --to-queue, --to-priority, or both.")
    try:
        place = {"queue": queue and read_queue("--to-queue", queue), "priority": priority}
    except ConfigurationError as error:
        raise CommandError(str(error)) from None
    bulk.run(command, options, Act("move", (State.PENDING,), partial(_move, place=place)))


def _move(outcome: Outcome, *, place: Mapping[str, Any]) -> str:
    if not outcome.move(**place):
        raise Refused(f"it is {outcome.state}")
    return f"waits in {outcome.queue} with priority {outcome.priority}"
