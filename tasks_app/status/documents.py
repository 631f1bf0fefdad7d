"""
Documents: what is told of an outcome, to pages, programs and events alike.

State and progress, never the call: arguments stay in the row, their secrets are masked in every
text and in the result, and the result is for those alone who may read it. Numbers that JavaScript
would round are texts.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from hashlib import blake2s
from typing import Any
from uuid import UUID

from django.utils.duration import duration_iso_string

from tasks_app import declare
from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Outcome
from tasks_app.redaction import mask_result, scrub, secret_texts
from tasks_app.states import State

#: Integers up to here are what they are in JavaScript.
LARGEST_INTEGER = 2**53 - 1

#: What a state is called to the people who wait.
WORDS = {
    State.PENDING: "waiting",
    State.RUNNING: "running",
    State.SUCCEEDED: "done",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
}

#: Columns that tell how far an outcome is: all that a further look reads.
CHANGING = (
    "state",
    "reason",
    "error",
    "attempt",
    "started_at",
    "finished_at",
    "cancel_requested_at",
    "progress_done",
    "progress_total",
    "progress_message",
)


def secrets_of(outcome: Outcome) -> list[str]:
    """Return the texts that nobody is shown, as far as this process knows the task."""
    with suppress(ConfigurationError):
        declare.task_options(outcome.task_name)
    return secret_texts(outcome.task_name, outcome.args, outcome.kwargs)


def document(outcome: Outcome, secrets: list[str], *, with_result: bool) -> dict[str, Any]:
    """Return an outcome's status as plain JSON values, but for its links."""
    told: dict[str, Any] = {
        "id": str(outcome.id),
        "state": str(outcome.state),
        "is_final": outcome.is_final,
        **summary(outcome, secrets),
        "reason": outcome.reason,
        "progress": _progress(outcome, secrets),
        "attempt": outcome.attempt,
        "cancel_requested": outcome.cancel_requested_at is not None,
        "created_at": plain(outcome.created_at),
        "started_at": plain(outcome.started_at),
        "finished_at": plain(outcome.finished_at),
    }
    if outcome.state == State.FAILED:
        told["error"] = scrub(outcome.error.partition("\n")[0], secrets)
    if outcome.state == State.SUCCEEDED and with_result:
        result = mask_result(outcome.task_name, outcome.args, outcome.kwargs, outcome.result)
        told["result"] = plain(result)
    return told


def summary(outcome: Outcome, secrets: list[str]) -> dict[str, Any]:
    """Return what a bar shows: its share of the whole (None: nobody knows), and a line of text."""
    progress = outcome.progress
    is_measured = progress is not None and bool(progress.total)
    share = float(outcome.state == State.SUCCEEDED) if outcome.is_final else None
    parts = [_word(outcome)]
    if progress is not None and progress.total and outcome.state != State.SUCCEEDED:
        share = min(max(progress.done / progress.total, 0.0), 1.0)
        parts.append(f"{share:.0%}")
    if progress is not None and not outcome.is_final:
        parts += [] if is_measured else [f"{progress.done:g} done"]
        parts += [scrub(progress.message, secrets)] if progress.message else []
    return {"share": share, "text": " · ".join(parts)}


def _word(outcome: Outcome) -> str:
    if outcome.state == State.RUNNING and outcome.cancel_requested_at is not None:
        return "stopping"
    if outcome.state == State.PENDING and outcome.started_at is not None:
        return "in progress"  # between two runs, which is nothing that they wait for
    return WORDS[State(outcome.state)]


def version(outcome: Outcome) -> str:
    """Return a name for what there is to tell: equal names, nothing new."""
    facts = [str(getattr(outcome, name)) for name in CHANGING]
    return blake2s(repr(facts).encode(), digest_size=12).hexdigest()


def plain(value: Any) -> Any:
    """Return a copy of a result in which every value survives the journey into a browser."""
    match value:
        case bool() | None | str() | float():
            return value
        case int():
            return value if abs(value) <= LARGEST_INTEGER else str(value)
        case Mapping():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return duration_iso_string(value)
        case Decimal() | UUID():
            return str(value)
    raise TypeError(f"A result holds no {type(value).__name__}.")


def _progress(outcome: Outcome, secrets: list[str]) -> dict[str, Any] | None:
    progress = outcome.progress
    if progress is None:
        return None
    message = scrub(progress.message, secrets)
    return {"done": progress.done, "total": progress.total, "message": message}
