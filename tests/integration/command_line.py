"""The operator's command as a test types it, and rows in the states that it is used on."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.management import CommandError, call_command
from django.utils import timezone

from tasks_app import outcomes
from tasks_app.leases import Failure, Lease
from tasks_app.models import Outcome
from tasks_app.states import Reason

WORKER = "worker@test#1/1"


@dataclass(frozen=True)
class Typed:
    """What one command wrote, and its exit code."""

    code: int
    output: str
    errors: str


def tasks(*words: object) -> Typed:
    """Run `manage.py tasks …` in this process."""
    output, errors = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command("tasks", *map(str, words), stdout=output, stderr=errors, no_color=True)
    except CommandError as error:
        code = error.returncode
        errors.write(f"{error}\n")
    return Typed(code, output.getvalue(), errors.getvalue())


def claimed(outcome: Outcome) -> Outcome:
    """Claim an outcome as a worker would."""
    running = outcomes.claim(outcome.pk, frozenset({outcome.task_name}), WORKER)
    assert running is not None
    return running


def failed(outcome: Outcome, error: str = "no luck", traceback: str = "") -> Outcome:
    """Run an outcome to its failure."""
    failure = Failure("builtins.ValueError", error, traceback)
    outcomes.fail(Lease.of(claimed(outcome)), Reason.NOT_RETRYABLE, failure)
    outcome.refresh()
    return outcome


def succeeded(outcome: Outcome, result_json: str | None = None) -> Outcome:
    """Run an outcome to its success."""
    outcomes.succeed(Lease.of(claimed(outcome)), result_json)
    outcome.refresh()
    return outcome


def rewritten(outcome: Outcome, **values: Any) -> Outcome:
    """Write columns of a row past every guard, such as times that have passed."""
    Outcome.objects.filter(pk=outcome.pk).update(**values)
    outcome.refresh()
    return outcome


def ago(**span: float) -> datetime:
    """Return a time in the past."""
    return timezone.now() - timedelta(**span)
