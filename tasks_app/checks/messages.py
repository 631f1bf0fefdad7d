"""How a check speaks: one message with what was found, why it matters, and the line to add."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it

Messages = list[CheckMessage]
Check = Callable[..., Messages]

#: Names shown before "and 3 more".
SHOWN = 5


def problem(number: str, text: str, hint: str, obj: Any = None) -> CheckMessage:
    """Return the message `tasks_app.<number>`: an error for E, a warning for W."""
    kind = Error if number.startswith("E") else Warning
    return kind(text, hint=hint, obj=obj, id=f"tasks_app.{number}")


def listed(names: Iterable[str]) -> str:
    """Return names as one readable text, the first few of them."""
    ordered: Sequence[str] = sorted(names)
    rest = len(ordered) - SHOWN
    return ", ".join(ordered[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
