"""
Peals: messages that ring for several outcomes each.

A message costs a worker's main process more than a short run costs the process that runs it. So
where many alike rows come due at once, one message rings for some of them: for its own outcome, as
every doorbell, and for the rest of its peal, whose headers it carries along. `turns.py` is the
other end: one process takes them in turn, and hands back the rest as soon as one takes long.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

from tasks_app import context
from tasks_app.models import Outcome
from tasks_app.options import TaskOptions, declared
from tasks_app.shapes import LONGEST_PEAL

#: Messages at least over which alike rows of one look are spread, so that no process stays idle.
SPREAD = 20

#: A time limit is counted from the message on; a shorter one than this is not shared.
SHORTEST_LIMIT = timedelta(seconds=10)

#: Seconds for which a task whose rows came due again unanswered is rung for one by one.
MEMORY = 60.0


class Slowness:
    """One relay's memory of tasks whose rows were handed back, or lost with their message."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, rows: Iterable[Outcome]) -> None:
        """Remember the tasks of rows that were announced before."""
        until = time.monotonic() + MEMORY
        self._until.update({row.task_name: until for row in rows if row.announced})

    def tasks(self) -> frozenset[str]:
        """Return the names of the tasks that are not to be rung for in peals now."""
        now = time.monotonic()
        self._until = {name: until for name, until in self._until.items() if until > now}
        return frozenset(self._until)


def arranged(rows: Sequence[Outcome], slow: Collection[str]) -> list[list[Outcome]]:
    """
    Return rows as peals, each in the place of its first row.

    Args:
        rows: What one look took, as it was before it was announced.
        slow: Tasks whose rows are to be rung for one by one.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, row in enumerate(rows):
        alike.setdefault(_kind(row, slow), []).append(place)
    peals = [part for places in alike.values() for part in _parts(places)]
    return [[rows[place] for place in part] for part in sorted(peals)]


def _parts(places: list[int]) -> list[list[int]]:
    size = min(LONGEST_PEAL, max(len(places) // SPREAD, 1))
    return [places[start : start + size] for start in range(0, len(places), size)]


def _kind(row: Outcome, slow: Collection[str]) -> tuple[object, ...]:
    """Return what the rows of a peal have in common; what rings alone has nothing."""
    options = declared.get(row.task_name)
    if options is None or row.task_name in slow or not _is_plain(row) or not _is_patient(options):
        return (row.pk,)
    headers = frozenset(context.trace_headers(row.trace_context))
    return row.queue, row.task_name, row.priority, headers


def _is_plain(row: Outcome) -> bool:
    """Tell whether a row is rung for the first time, has lost no worker and has no options."""
    return not (row.announced or row.crashes or row.options_json)


def _is_patient(options: TaskOptions) -> bool:
    limits = (options.timeout, options.soft_timeout)
    return all(limit is None or limit >= SHORTEST_LIMIT for limit in limits)
