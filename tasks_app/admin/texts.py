"""How values are shown: signs, times, and everything masked that a declaration calls secret."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince

from tasks_app import declare
from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Outcome
from tasks_app.redaction import mask_arguments, scrub, secret_texts
from tasks_app.states import State

#: A sign beside the word, for readers who scan.
SIGNS = {
    State.PENDING: "◷",
    State.RUNNING: "▶",
    State.SUCCEEDED: "✓",
    State.FAILED: "✗",
    State.CANCELLED: "⊘",
    State.EXPIRED: "⌛",
}

#: Characters of an error and of a request id in the list.
LINE, SHORT_ID = 100, 16

#: Stands where there is nothing, as everywhere in the admin.
NOTHING = "-"

#: Seconds below which a time is shown with fractions.
SHORT = 60

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def masked(outcome: Outcome) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments, secrets masked."""
    know(outcome)
    return mask_arguments(outcome.task_name, outcome.args, outcome.kwargs)


def scrubbed(outcome: Outcome, text: str) -> str:
    """Return a text without the secrets among an outcome's arguments."""
    know(outcome)
    return scrub(text, secret_texts(outcome.task_name, outcome.args, outcome.kwargs))


def know(outcome: Outcome) -> None:
    """Load the task's declaration if there is one: it names what is to be masked."""
    with suppress(ConfigurationError):
        declare.task_options(outcome.task_name)


def pre(text: str) -> Any:
    """Return a text that keeps its lines."""
    return format_html("<pre>{}</pre>", text)


def shortened(text: str, length: int) -> str:
    """Return a text of so many characters at most."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def span(length: timedelta) -> str:
    """Return a length of time as `in_words` does, with a unit at zero too; never a negative one."""
    seconds = max(length.total_seconds(), 0)
    return in_words(seconds) if seconds else "0 s"


def in_words(seconds: float) -> str:
    """
    Return a length of time in as few signs as it needs.

    >>> [in_words(each) for each in (0, 0.25, 1.5, 90, 120, 5400, 7200, 90000, 172800)]
    ['0', '250 ms', '1.5 s', '1:30 min', '2 min', '1:30 h', '2 h', '1 d 1 h', '2 d']
    """
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms" if seconds else "0"
    if seconds < MINUTE:
        return f"{seconds:.3g} s"
    if seconds < HOUR:
        minutes, rest = divmod(round(seconds), MINUTE)
        return f"{minutes}:{rest:02} min" if rest else f"{minutes} min"
    if seconds < DAY:
        hours, rest = divmod(round(seconds / MINUTE), 60)
        return f"{hours}:{rest:02} h" if rest else f"{hours} h"
    days, rest = divmod(round(seconds / HOUR), 24)
    return f"{days} d {rest} h" if rest else f"{days} d"


def lasting(length: timedelta) -> str:
    """Return a length of time in words: `4 seconds`, `5 minutes`."""
    seconds = max(round(length.total_seconds()), 0)
    if seconds < 2 * SHORT:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    now = timezone.now()
    return timesince(now - length, now, depth=1)


def ago(length: timedelta) -> str:
    """Return how long ago something was, in words."""
    return f"{lasting(length)} ago"
