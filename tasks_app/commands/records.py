"""
How an outcome looks to an operator, as a record for JSON and as words for a table.

Nothing here shows an argument or a result: `arguments_of` is asked for by `show` alone, and what
it returns has gone through the masks.
"""

import json
from datetime import datetime, timedelta
from typing import Any

from tasks_app.models import Attempt, Outcome
from tasks_app.printable import plain_json
from tasks_app.redaction import MASK, mask_arguments, mask_result, scrub, secret_texts

#: Columns that tell about an outcome without its arguments, in the order in which they are shown.
FIELDS = (
    "id",
    "task_name",
    "state",
    "reason",
    "error",
    "queue",
    "priority",
    "attempt",
    "max_attempts",
    "crashes",
    "announced",
    "created_at",
    "run_at",
    "expires_at",
    "started_at",
    "finished_at",
    "lease_until",
    "cancel_requested_at",
    "cancel_reason",
    "worker",
    "request_id",
    "root_id",
    "parent_id",
)

#: Texts of any length that `FIELDS` leaves out.
UNSEEN = ("args_json", "kwargs_json", "result_json", "options_json")

ATTEMPT_FIELDS = (
    "number",
    "state",
    "worker",
    "started_at",
    "finished_at",
    "error_type",
    "error",
    "traceback",
    "sentry_event_id",
)

SHORT_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def record_of(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome without arguments and result."""
    record = {name: getattr(outcome, name) for name in FIELDS}
    return {**record, "replay_of": outcome.replay_of_id, "owner": outcome.owner_id}


def attempt_record(attempt: Attempt) -> dict[str, Any]:
    """Return one attempt; its texts were scrubbed when they were written."""
    return {name: getattr(attempt, name) for name in ATTEMPT_FIELDS}


def arguments_of(outcome: Outcome, *, shown: bool) -> dict[str, Any]:
    """
    Return arguments, result, key and progress of an outcome as an operator may see them.

    Args:
        outcome: The outcome.
        shown: Show values; secrets stay masked. Otherwise every value is masked.
    """
    args, kwargs = outcome.args, outcome.kwargs
    secrets = secret_texts(outcome.task_name, args, kwargs)
    if shown:
        masked_args, masked_kwargs = mask_arguments(outcome.task_name, args, kwargs)
        result = mask_result(outcome.task_name, args, kwargs, outcome.result)
    else:
        masked_args, masked_kwargs = [MASK] * len(args), dict.fromkeys(kwargs, MASK)
        result = None if outcome.result_json is None else MASK
    key = outcome.idempotency_key
    return {
        "args": masked_args,
        "kwargs": masked_kwargs,
        "result": result,
        "result_omitted": outcome.result_omitted,
        # Made of arguments, more often than not.
        "idempotency_key": key and (scrub(key, secrets) if shown else MASK),
        "progress": progress_text(outcome, secrets),
    }


def progress_text(outcome: Outcome, secrets: list[str]) -> str | None:
    """Return what the helper last reported, as one line."""
    progress = outcome.progress
    if progress is None:
        return None
    total = "" if progress.total is None else f" of {progress.total:g}"
    return f"{progress.done:g}{total} {scrub(progress.message, secrets)}".strip()


def as_json(value: Any) -> str:
    """Return JSON text; what JSON does not know (ids, times, decimals) becomes text."""
    return plain_json(json.dumps(value, default=_text, ensure_ascii=False, indent=2))


def counted(number: int) -> str:
    """
    Return a number of outcomes in words.

    >>> counted(1), counted(1000)
    ('1 outcome', '1,000 outcomes')
    """
    return f"{number:,} outcome{'' if number == 1 else 's'}"


def short_span(span: timedelta) -> str:
    """
    Return a span in its largest unit, rounded down.

    >>> short_span(timedelta(minutes=90))
    '1h'
    """
    seconds = max(span.total_seconds(), 0)
    for unit, length in SHORT_UNITS:
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return "0s"


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
