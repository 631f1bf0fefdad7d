"""
Which outcomes an operator means: filters, or ids given whole or by their first digits.

Reading only; ages count from `created_at` on the database's clock. `list` and the acts on many
outcomes read the same filters, so what `list` shows is what `retry` and `cancel` would meet.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from tasks_app.clock import DatabaseNow
from tasks_app.durations import LONGEST
from tasks_app.models import Outcome
from tasks_app.states import State
from tasks_app.suggestions import did_you_mean

#: Fewest hexadecimal digits by which an outcome may be called.
SHORTEST_PREFIX = 8

#: First and last UUIDv7. The version's digit stays in the bounds of a range: MariaDB sorts other
#: versions by other bytes.
FIRST_ID = "00000000000070008000000000000000"
LAST_ID = "ffffffffffff7fffbfffffffffffffff"

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class SelectionError(ValueError):
    """What was given selects no outcome, or more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Filters that all hold; an empty one does not filter."""

    states: tuple[State, ...] = ()
    tasks: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    request_id: str | None = None

    def __bool__(self) -> bool:
        return self != Selection()

    def outcomes(self) -> Any:
        """Return the outcomes that pass every filter, the newest first."""
        rows = Outcome.objects.order_by("-pk")
        for field, values in (
            ("state", self.states),
            ("task_name", self.tasks),
            ("queue", self.queues),
        ):
            if values:
                rows = rows.filter(**{f"{field}__in": values})
        if self.older_than is not None:
            rows = rows.filter(created_at__lte=DatabaseNow() - self.older_than)
        if self.newer_than is not None:
            rows = rows.filter(created_at__gt=DatabaseNow() - self.newer_than)
        if self.request_id is not None:
            rows = rows.filter(request_id=self.request_id)
        return rows


def read_state(text: str) -> State:
    """Return the state of that name, or raise SelectionError with the nearest one."""
    try:
        return State(text.lower())
    except ValueError:
        hint = did_you_mean(text.lower(), [str(state) for state in State])
        raise SelectionError(f"{text!r} is no state.{hint}") from None


def read_age(text: str) -> timedelta:
    """
    Return a span such as `90s`, `10m`, `1h30m`, `2d` or `1w`.

    >>> read_age("1h30m")
    datetime.timedelta(seconds=5400)

    Raises:
        SelectionError: it is no such text, or longer than any row is kept.
    """
    parts = re.findall(r"(\d+)([smhdw])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise SelectionError(f"{text!r} is no age; say it like 90s, 10m, 1h30m, 2d or 1w.")
    seconds = sum(int(number) * UNITS[unit] for number, unit in parts)
    if seconds > LONGEST.total_seconds():
        raise SelectionError(f"{text!r} is longer than {LONGEST.days} days.")
    return timedelta(seconds=seconds)


def find(text: str) -> Outcome:
    """
    Return the outcome with this id, or the only one whose id begins so.

    Raises:
        SelectionError: it cannot be an id, no outcome has it, or several begin with it.
    """
    digits = text.replace("-", "").lower()
    if not re.fullmatch(f"[0-9a-f]{{{SHORTEST_PREFIX},32}}", digits):
        raise SelectionError(
            f"{text!r} is no outcome id: give a UUID or its first {SHORTEST_PREFIX} or more digits."
        )
    bounds = (UUID(digits + FIRST_ID[len(digits) :]), UUID(digits + LAST_ID[len(digits) :]))
    found: list[Outcome] = list(Outcome.objects.filter(pk__range=bounds).order_by("pk")[:2])
    if not found:
        raise SelectionError(f"There is no outcome {text}.")
    if len(found) > 1:
        count = Outcome.objects.filter(pk__range=bounds).count()
        raise SelectionError(
            f"{text} is ambiguous: {count:,} outcomes begin so, such as {found[0].pk} and "
            f"{found[1].pk}. Give more digits."
        )
    return found[0]


def find_all(texts: Iterable[str]) -> list[UUID]:
    """Return the ids of several outcomes, each once, in the order given; see `find`."""
    return list(dict.fromkeys(find(text).pk for text in texts))
