"""`tasks discard`: pending outcomes fail for good, without another run."""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand

from tasks_app.commands import bulk
from tasks_app.commands.bulk import Act, Refused
from tasks_app.commands.who import operator
from tasks_app.models import Outcome
from tasks_app.states import State

HELP = "Give up pending outcomes: they fail as discarded."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ids, filters and `--reason`."""
    bulk.add_arguments(parser)
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="why, in one line; kept with the outcome"
    )


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Discard every outcome that the options name."""
    act = partial(_discard, by=operator(), reason=" ".join(options["reason"].split()))
    bulk.run(command, options, Act("discard", (State.PENDING,), act))


def _discard(outcome: Outcome, *, by: str, reason: str) -> str:
    if not outcome.discard(by=by, reason=reason):
        raise Refused(f"it is {outcome.state}")
    return "discarded"
