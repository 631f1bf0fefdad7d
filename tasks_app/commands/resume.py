"""`tasks resume`: a paused queue works again."""

import argparse
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tasks_app import queues
from tasks_app.commands.who import operator
from tasks_app.printable import plain

HELP = "Resume a paused queue."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the queue."""
    parser.add_argument("queue", metavar="QUEUE")


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Resume it; one that is not paused is refused, since its name may be mistyped."""
    name = plain(options["queue"])
    if not queues.resume(options["queue"], by=operator() or None):
        resting = ", ".join(sorted(map(plain, queues.paused()))) or "none"
        raise CommandError(f"{name} is not paused. Paused queues: {resting}.")
    command.stdout.write(f"{name} works again.")
