"""
`tasks retry`: a pending outcome becomes due now; a final one is replayed as a new outcome.

An outcome that was replayed before is refused, so the same `retry` may be typed twice: what runs
for it now is the replay, and that one can be retried when it has failed.
"""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand

from tasks_app.commands import bulk
from tasks_app.commands.bulk import Act, Refused
from tasks_app.exceptions import TasksAppError
from tasks_app.idempotency import holder_of
from tasks_app.models import Outcome
from tasks_app.states import State

HELP = "Run pending outcomes now and replay final ones; filters alone mean failed ones."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ids, filters and `--again`."""
    bulk.add_arguments(parser)
    parser.add_argument("--again", action="store_true", help="replay even what was replayed before")


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Retry every outcome that the options name."""
    act = Act("retry", (State.FAILED,), partial(_retry, again=options["again"]))
    bulk.run(command, options, act)


def _retry(outcome: Outcome, *, again: bool) -> str:
    if outcome.state == State.RUNNING:
        raise Refused("it is running")
    if not outcome.is_final:
        return _run_now(outcome)
    successor = holder_of(outcome.task_name, outcome.idempotency_key or str(outcome.pk))
    if successor not in {None, outcome.pk} and not again:
        raise Refused(f"outcome {successor} stands for it now; --again replays it all the same")
    try:
        return f"replayed as {outcome.replay().pk}"
    except (TasksAppError, TypeError, ValueError) as error:
        raise Refused(str(error)) from error


def _run_now(outcome: Outcome) -> str:
    if not outcome.run_now():
        raise Refused(f"it is {outcome.state} by now")
    return "is due now"
