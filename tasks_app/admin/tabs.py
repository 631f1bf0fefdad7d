"""The list's tabs: a state each, with what was counted of it when the stock was last taken."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from tasks_app import stock
from tasks_app.admin.texts import SIGNS
from tasks_app.models import Stock
from tasks_app.states import State


@dataclass(frozen=True, slots=True)
class Counted:
    """The stock as the list needs it; empty before the first count."""

    at: datetime | None
    by_state: Counter[str]
    #: Schedules whose calls have succeeded.
    schedules: tuple[str, ...]

    @classmethod
    def read(cls, task_name: str = "") -> Self:
        """Read the stock's one row; of one task's outcomes, or of all."""
        row = Stock.objects.filter(pk=stock.ROW).first()
        if row is None or row.taken_at is None:
            return cls(None, Counter(), ())
        counts = stock.merged(json.loads(row.totals_json), json.loads(row.recent_json))
        by_state: Counter[str] = Counter()
        for kind, sign in (("present", 1), ("finished", 1), ("pruned", -1)):
            for labels, number in counts.get(kind, {}).items():
                task, state = stock.labels(labels)
                if task_name in {"", task}:
                    by_state[state] += sign * round(number)
        return cls(row.taken_at, by_state, tuple(sorted(counts.get("schedule_succeeded_at", {}))))


@dataclass(frozen=True, slots=True)
class Tab:
    """A link to the outcomes of one state, or to all."""

    state: str
    sign: str
    #: With thousands parted; empty before the first count.
    count: str
    address: str
    is_current: bool


def tabs(current: str, counted: Counted, changelist: Any) -> list[Tab]:
    """Return the tabs of a list, all outcomes first."""
    found = []
    for state in ("", *State):
        number = counted.by_state[state] if state else counted.by_state.total()
        address = changelist.get_query_string({"state": state or None}, ["e"])
        count = "" if counted.at is None else f"{max(number, 0):,}"
        found.append(
            Tab(str(state), SIGNS[State(state)] if state else "", count, address, state == current)
        )
    return found
