"""
Peals: messages that ring for several outcomes each.

A message costs a worker's main process more than a short run costs the process that runs it. So
where many alike rows come due at once, one message rings for some of them: for its own outcome, as
every doorbell, and for the rest of its peal, whose headers it carries along. `turns.py` is the
other end: one process takes them in turn, and hands back the rest as soon as one takes long.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from tasks_app import context
from tasks_app.models import Outcome
from tasks_app.options import TaskOptions, declared
from tasks_app.shapes import LONGEST_PEAL

#: Messages at least over which alike rows of one look are spread, so that no process stays idle.
SPREAD = 20

#: Rows at most that are announced for each message that `MAX_IN_FLIGHT` allows: enough for large
#: looks, where they share messages.
AHEAD = 5

#: A time limit is counted from the message on; a shorter one than this is not shared.
SHORTEST_LIMIT = timedelta(seconds=10)

#: Size of a task's first peals before it doubles, and growth per look once some were too large.
FIRST, GROWTH = 1.0, 0.25


class Sizes:
    """
    One relay's memory of how many outcomes of each task a message may ring for.

    A message that rang for too many comes back as rows that are due again. So the size is that of
    a congestion window, as RFC 5681 has it: it doubles with each look until the first of these,
    is halved by each, and then grows slowly.
    """

    def __init__(self) -> None:
        self._of_task: dict[str, float] = {}
        self._of_queue: dict[str, int] = {}
        self._returned: set[str] = set()

    def of_queue(self, queue: str) -> int:
        """
        Return how many rows of a queue may be announced for each message that it may have.

        They share messages as the last look had them. Whatever comes with a higher priority waits
        for all that are announced, so there is a limit.
        """
        return min(self._of_queue.get(queue, 1), AHEAD)

    def learn(self, rows: Sequence[Outcome]) -> Mapping[str, float]:
        """Return the sizes by task, after another look that took these rows."""
        returned = {row.task_name for row in rows if row.announced}
        self._returned |= returned
        for name in {row.task_name for row in rows}:
            self._of_task[name] = self._next(name, is_returned=name in returned)
        self._of_queue = {}
        for row in rows:
            size = int(self._of_task[row.task_name])
            self._of_queue[row.queue] = min(size, self._of_queue.get(row.queue, size))
        return self._of_task

    def _next(self, name: str, *, is_returned: bool) -> float:
        size = self._of_task.get(name, FIRST)
        if is_returned:
            return max(size / 2, 1)
        grown = size + GROWTH if name in self._returned else size * 2
        return min(grown, LONGEST_PEAL)


def arranged(rows: Sequence[Outcome], sizes: Mapping[str, float]) -> list[list[Outcome]]:
    """
    Return rows as peals, each in the place of its first row.

    Args:
        rows: What one look took, as it was before it was announced.
        sizes: How many rows of each task a peal may have.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, row in enumerate(rows):
        alike.setdefault(_kind(row), []).append(place)
    peals = [
        part
        for places in alike.values()
        for part in _parts(places, sizes[rows[places[0]].task_name])
    ]
    return [[rows[place] for place in part] for part in sorted(peals)]


def _parts(places: list[int], most: float) -> list[list[int]]:
    size = min(int(most), max(len(places) // SPREAD, 1))
    return [places[start : start + size] for start in range(0, len(places), size)]


def _kind(row: Outcome) -> tuple[object, ...]:
    """Return what the rows of a peal have in common; what rings alone has nothing."""
    options = declared.get(row.task_name)
    if options is None or not _is_plain(row) or not _is_patient(options):
        return (row.pk,)
    headers = frozenset(context.trace_headers(row.trace_context))
    return row.queue, row.task_name, row.priority, headers


def _is_plain(row: Outcome) -> bool:
    """Tell whether a row is rung for the first time, has lost no worker and has no options."""
    return not (row.announced or row.crashes or row.options_json)


def _is_patient(options: TaskOptions) -> bool:
    limits = (options.timeout, options.soft_timeout)
    return all(limit is None or limit >= SHORTEST_LIMIT for limit in limits)
