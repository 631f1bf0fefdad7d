"""`tasks cancel`: pending outcomes never run, running ones are asked to stop."""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand

from tasks_app.commands import bulk
from tasks_app.commands.bulk import Act, Refused
from tasks_app.commands.who import operator
from tasks_app.conf import conf
from tasks_app.models import Outcome
from tasks_app.states import State

HELP = "Cancel pending outcomes and ask running ones to stop."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ids, filters and `--reason`."""
    bulk.add_arguments(parser)
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="why, in one line; kept with the outcome"
    )


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Cancel every outcome that the options name."""
    act = partial(_cancel, by=operator(), reason=" ".join(options["reason"].split()))
    bulk.run(command, options, Act("cancel", (State.PENDING, State.RUNNING), act))


def _cancel(outcome: Outcome, *, by: str, reason: str) -> str:
    if outcome.is_final:
        raise Refused(f"it is {outcome.state} already")
    if not outcome.cancel(by=by, reason=reason):
        raise Refused(f"it is {outcome.state} by now")
    if outcome.state == State.CANCELLED:
        return "cancelled"
    return f"asked to stop; it is stopped in {conf.CANCEL_GRACE.total_seconds():g} s at the latest"
