"""`tasks pause`: a queue rests, everywhere, until it is resumed."""

import argparse
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand

from tasks_app import queues
from tasks_app.commands.who import operator
from tasks_app.printable import plain

HELP = "Pause a queue: nothing of it is announced or begins until it is resumed."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the queue and `--reason`."""
    parser.add_argument("queue", metavar="QUEUE")
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="why, in one line; shown with the queue"
    )


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Pause it."""
    name = options["queue"]
    is_new = queues.pause(name, by=operator() or None, reason=options["reason"])
    told = "is paused; what runs already goes on" if is_new else "was paused already"
    command.stdout.write(f"{plain(name)} {told}.")
